"""What an operator changes while it runs: durable first, then in effect, then answered."""

from typing import Any

from ingest_service.domain.caller import ANYBODY, Caller
from ingest_service.domain.ingestion import IngestionSnapshot
from ingest_service.domain.model import Priority
from ingest_service.domain.snapshot import QueueSnapshot
from ingest_service.engines import Bookkeeping, Control
from ingest_service.engines.audit import MarkKind
from ingest_service.errors import NotPermitted
from ingest_service.service.queries import Queries
from ingest_service.service.reports import Eta, MoveReport


class Operator:
    """Cancels, moves, repeats, deletes; pauses, resumes, changes the pace.

    Each change is on record with its caller. A caller that sees only its own controls only
    its own: `IngestionNotFound` for another's, `NotPermitted` for the queue as a whole.
    """

    def __init__(self, control: Control, bookkeeping: Bookkeeping, queries: Queries) -> None:
        self._control = control
        self._bookkeeping = bookkeeping
        self._queries = queries

    def cancel(self, ingestion_id: str, caller: Caller = ANYBODY) -> IngestionSnapshot:
        """Give up what has not been started; what is under way ends.

        Does nothing the second time. Raise `IngestionNotFound`, or `Conflict` if it is
        finished already.
        """
        return self._control.cancel(ingestion_id, caller)

    def move(
        self,
        ingestion_id: str,
        priority: Priority,
        caller: Caller = ANYBODY,
        *,
        dry_run: bool = False,
    ) -> MoveReport:
        """Give what is left of an ingestion another class; with `dry_run` tell what that would do.

        Raise `IngestionNotFound`, or `Conflict` if it is finished.
        """
        effect = self._control.move(ingestion_id, priority, caller, dry_run=dry_run)
        return MoveReport(
            snapshot=self._queries.status(ingestion_id),
            old=effect.old,
            new=priority,
            eta_before=self._eta(effect.before),
            eta_after=self._eta(effect.after),
            delayed=effect.delayed,
            longest_delay=effect.longest_delay,
        )

    def retry(self, ingestion_id: str, caller: Caller = ANYBODY) -> int:
        """Queue the items that have failed once more; return how many.

        Those of a batch that is still being worked on are left alone. Raise
        `IngestionNotFound`, `QueueFull`, `QuotaFull`, or `Conflict` if it was cancelled.
        """
        return self._control.reopen(ingestion_id, caller)

    def delete(self, ingestion_id: str, caller: Caller = ANYBODY) -> IngestionSnapshot:
        """Forget a finished ingestion, its items and its results; return what it was.

        Raise `IngestionNotFound`, or `Conflict` if it is not finished.
        """
        return self._control.delete(ingestion_id, caller)

    def pause(self, reason: str, caller: Caller = ANYBODY) -> None:
        """Start nothing until `resume`; batches under way end."""
        self._control.pause(reason, _of_all(caller))

    def resume(self, caller: Caller = ANYBODY) -> None:
        """Go on at the pace: slots that nobody used are gone."""
        self._control.pause(None, _of_all(caller))

    def set_interval(self, seconds: float, caller: Caller = ANYBODY) -> None:
        """Change the pace, counting from the last start."""
        self._control.set_interval(seconds, _of_all(caller))

    def keys_reloaded(self, before: Any, after: Any, caller: Caller = ANYBODY) -> None:
        """Record that other API keys are in force; `before` and `after` say which, in JSON."""
        self._bookkeeping.note(MarkKind.KEYS, before, after, caller)

    def session_secret(self) -> bytes:
        """Return the 32 bytes that seal cookies, the same over restarts."""
        return self._bookkeeping.session_secret()

    def _eta(self, snapshot: QueueSnapshot) -> Eta | None:
        return None if snapshot.place is None else self._queries.eta(snapshot)


def _of_all(caller: Caller) -> Caller:
    if caller.own_only:
        raise NotPermitted("This key may change only what it has submitted, not the whole queue.")
    return caller
