"""What an operator changes while it runs: durable first, then in effect, then answered."""

from ingest_service.domain.ingestion import IngestionSnapshot
from ingest_service.domain.model import Priority
from ingest_service.domain.snapshot import QueueSnapshot
from ingest_service.engines import Control
from ingest_service.service.queries import Queries
from ingest_service.service.reports import Eta, MoveReport


class Operator:
    """Cancels, moves, repeats; pauses, resumes, changes the pace."""

    def __init__(self, control: Control, queries: Queries) -> None:
        self._control = control
        self._queries = queries

    def cancel(self, ingestion_id: str) -> IngestionSnapshot:
        """Give up what has not been started; what is under way ends.

        Does nothing the second time. Raise `IngestionNotFound`, or `Conflict` if it is
        finished already.
        """
        return self._control.cancel(ingestion_id)

    def move(self, ingestion_id: str, priority: Priority, *, dry_run: bool = False) -> MoveReport:
        """Give what is left of an ingestion another class; with `dry_run` tell what that would do.

        Raise `IngestionNotFound`, or `Conflict` if it is finished.
        """
        effect = self._control.move(ingestion_id, priority, dry_run=dry_run)
        return MoveReport(
            snapshot=self._queries.status(ingestion_id),
            old=effect.old,
            new=priority,
            eta_before=self._eta(effect.before),
            eta_after=self._eta(effect.after),
            delayed=effect.delayed,
            longest_delay=effect.longest_delay,
        )

    def retry(self, ingestion_id: str) -> int:
        """Queue the items that have failed once more; return how many.

        Those of a batch that is still being worked on are left alone. Raise
        `IngestionNotFound`, `QueueFull`, or `Conflict` if it was cancelled.
        """
        return self._control.reopen(ingestion_id)

    def pause(self, reason: str) -> None:
        """Start nothing until `resume`; batches under way end."""
        self._control.pause(reason)

    def resume(self) -> None:
        """Go on at the pace: slots that nobody used are gone."""
        self._control.pause(None)

    def set_interval(self, seconds: float) -> None:
        """Change the pace, counting from the last start."""
        self._control.set_interval(seconds)

    def _eta(self, snapshot: QueueSnapshot) -> Eta | None:
        return None if snapshot.place is None else self._queries.eta(snapshot)
