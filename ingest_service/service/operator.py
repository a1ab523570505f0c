"""What an operator changes while it runs: durable first, then in effect, then answered."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from ingest_service import logs
from ingest_service.clock import Clock
from ingest_service.domain.model import Ingestion, ItemState, Priority, Resend
from ingest_service.domain.pace import Pace
from ingest_service.domain.schedule import last_starts
from ingest_service.engines.embedded.journal import Journal
from ingest_service.engines.embedded.store import Store
from ingest_service.engines.embedded.worker import INTERVAL, PAUSED, Worker
from ingest_service.errors import Conflict, IngestionNotFound

#: How long the start of a batch can take, seconds: the commit of its record.
STARTS_WITHIN = 5.0


@dataclass(frozen=True, slots=True)
class Moved:
    """The effect of another class on the others."""

    #: How many other ingestions end later because of it.
    delayed: int
    #: By how many seconds at most.
    longest_delay: float


class Control:
    """Cancels, moves, repeats; pauses, resumes, changes the pace. One change at a time."""

    def __init__(
        self,
        *,
        clock: Clock,
        pace: Pace,
        store: Store,
        journal: Journal,
        worker: Worker,
        reserve: Callable[[int], None],
        configured_interval: float,
    ) -> None:
        self._clock = clock
        self._pace = pace
        self._configured_interval = configured_interval
        self._store = store
        self._journal = journal
        self._worker = worker
        self._reserve = reserve
        self._changing = threading.Lock()

    def cancel(self, ingestion_id: str) -> None:
        """Give up what has not been started; what is under way ends.

        Does nothing the second time. Raise `Conflict` if it is finished already.
        """
        with self._changing:
            ingestion = self._find(ingestion_id)
            if ingestion.cancelled:
                return
            self._refuse_finished(ingestion)
            at = self._clock.now()
            # If a batch is started between these two, both the journal and the
            # store take it for one that is under way.
            self._journal.cancelled(ingestion, at)
            self._store.cancel(ingestion_id, at)
            if not ingestion.cancelled:
                self._refuse_finished(ingestion)
            self._worker.note_cancelled(ingestion)
            # What was cut just before is started before the answer: after it nothing may be.
            self._store.await_start(self._clock, ingestion_id, STARTS_WITHIN)
            logs.event("cancelled", ingestion_id=ingestion_id, items=ingestion.counts.cancelled)

    def move(self, ingestion_id: str, priority: Priority) -> Moved:
        """Give what is left of an ingestion another class; raise `Conflict` if it is finished."""
        with self._changing:
            ingestion = self._find(ingestion_id)
            self._refuse_finished(ingestion)
            before = last_starts(self._worker.situation())
            if priority is not ingestion.priority:
                self._journal.moved(ingestion, priority)
                if self._store.move(ingestion_id, priority):
                    self._worker.enter(ingestion)
                logs.event("moved", ingestion_id=ingestion_id, priority=priority.name)
            delays = _delays(before, last_starts(self._worker.situation()), ingestion_id)
        return Moved(len(delays), max(delays, default=0.0))

    def retry(self, ingestion_id: str) -> int:
        """Queue the items that have failed once more; return how many.

        Those of a batch that is still being worked on are left alone. Raise
        `Conflict` if it was cancelled.
        """
        with self._changing:
            ingestion = self._find(ingestion_id)
            if ingestion.cancelled:
                raise Conflict("A cancelled ingestion is not tried again.")
            if ingestion.finished_at is not None and not ingestion.recorded:
                raise Conflict("It is just being finished; try again.")
            failed = _failed(ingestion, self._journal.rounds(ingestion_id))
            items = sum(len(again.offsets) for again in failed)
            if not items:
                return 0
            self._reserve(items)
            try:
                self._journal.reopened(ingestion, failed, self._clock.now())
            except BaseException:
                self._store.release(items)
                raise
            lined_up = self._store.reopen(ingestion, failed)
            if lined_up is not None:
                self._worker.submit(lined_up)
            logs.event("retried", ingestion_id=ingestion_id, items=items)
        return items

    def pause(self, reason: str) -> None:
        """Start nothing until `resume`; batches under way end."""
        with self._changing:
            self._journal.remember(PAUSED, f"yes {reason}")
            self._pace.paused = reason
            self._worker.nudge()
            logs.event("paused", reason=reason)

    def resume(self) -> None:
        """Go on at the pace: slots that nobody used are gone."""
        with self._changing:
            self._journal.remember(PAUSED, "no")
            self._pace.paused = None
            self._worker.nudge()
            logs.event("resumed")

    def set_interval(self, seconds: float) -> None:
        """Change the pace, counting from the last start."""
        with self._changing:
            # With the configured one beside it: whoever changes that means it.
            self._journal.remember(INTERVAL, f"{seconds!r} {self._configured_interval!r}")
            self._pace.interval = seconds
            self._worker.nudge()
            logs.event("interval_changed", seconds=seconds)

    def _find(self, ingestion_id: str) -> Ingestion:
        try:
            return self._store.find(ingestion_id)
        except IngestionNotFound:
            ingestion = self._journal.find(ingestion_id)
            if ingestion is None:
                raise
            return ingestion

    def _refuse_finished(self, ingestion: Ingestion) -> None:
        if ingestion.finished_at is not None:
            raise Conflict(f"It is finished: {ingestion.counts.outcome}.")


def _failed(ingestion: Ingestion, rounds: dict[int, int]) -> list[Resend]:
    """Return what sends the failed items again, a batch each."""
    found = []
    open_states = {ItemState.QUEUED, ItemState.IN_FLIGHT, ItemState.RETRYING}
    start = ingestion.item_states.find(ItemState.FAILED)
    while start >= 0:
        index = start // ingestion.batch_size
        span = ingestion.span(index)
        states = ingestion.item_states[span.start : span.stop]
        if not open_states & set(states):
            offsets = [place for place, state in enumerate(states) if state == ItemState.FAILED]
            # One round is the decision to do it, the next one does it.
            found.append(Resend(index, rounds.get(index, 0) + 2, 1, offsets))
        start = ingestion.item_states.find(ItemState.FAILED, span.stop)
    return found


def _delays(before: dict[str, float], after: dict[str, float], moved: str) -> list[float]:
    """Return by how much others are later than before."""
    both = (before.keys() & after.keys()) - {moved}
    return [late for each in both if (late := after[each] - before[each]) > 1e-6]
