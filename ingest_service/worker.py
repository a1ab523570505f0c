"""The one thread that sends batches: it drains the line in order, at the pace."""

import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from ingest_service import logs
from ingest_service.clock import Clock
from ingest_service.journal import Journal, Settled
from ingest_service.line import Entry, Line
from ingest_service.model import Batch, Ingestion, Outcome
from ingest_service.pace import Pace
from ingest_service.store import Store
from ingest_service.upstream import Call, FinishedCall, Upstream

#: Longest sleep at a stretch, so that a stop or a clock that jumps is noticed.
SLICE = 0.25


@dataclass(frozen=True, slots=True)
class _InFlight:
    batch: Batch
    call: Call


class Worker:
    """Drains the line in order of priority, one batch a slot.

    All decisions are in `step`, which never waits and which a test can call
    without a thread; the thread only repeats it and adds the waiting.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        pace: Pace,
        line: Line,
        store: Store,
        journal: Journal,
        upstream: Upstream,
        max_concurrent: int,
    ) -> None:
        self._clock = clock
        self._pace = pace
        self._line = line
        self._store = store
        self._journal = journal
        self._upstream = upstream
        self._max_concurrent = max_concurrent
        self._in_flight: list[_InFlight] = []
        self._stopping = False
        self._thread: threading.Thread | None = None

    def submit(self, ingestion: Ingestion) -> None:
        """Put an ingestion, which the store knows already, in its place in the line."""
        self._line.put(
            Entry(
                ingestion.priority,
                ingestion.sequence,
                ingestion.ingestion_id,
                self._clock.monotonic(),
            )
        )

    def step(self) -> float:
        """Take one turn: settle what has ended, start a batch if a slot is open.

        Return the instant at which the next turn can be of use: now or earlier
        means at once, inf means when something was put or a call has ended.

        The slot opens first, then the batch is chosen: one that was taken early
        could not be overtaken any more while it waits.
        """
        now = self._clock.monotonic()
        self._settle_ended(now)
        next_end = min((each.call.ends_at() for each in self._in_flight), default=math.inf)
        if len(self._in_flight) >= self._max_concurrent or self._line.head() is None:
            return next_end
        opens_at = self._pace.opens_at(self._line.filled_at)
        if now < opens_at:
            return min(opens_at, next_end)
        self._start_next()
        return now

    def start(self) -> None:
        """Run the steps in a daemon thread from now on."""
        self._thread = threading.Thread(target=self._run, name="ingest-worker", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """Start nothing more; return whether the thread ended in time.

        May be called twice, and before `start`.
        """
        self._stopping = True
        self._wake()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            try:
                due = self.step()
            except Exception:  # noqa: BLE001 - the thread must outlive its bugs
                logs.event("worker_error", level=logging.ERROR, exc_info=True)
                due = self._clock.monotonic() + SLICE
            self._wait(due)

    def _wait(self, due: float) -> None:
        if due == math.inf:
            with self._line.not_empty:
                self._clock.wait_for(self._line.not_empty, self._has_news)
        elif (ahead := due - self._clock.monotonic()) > 0:
            self._clock.sleep(min(ahead, SLICE))

    def _has_news(self) -> bool:
        busy = len(self._in_flight) >= self._max_concurrent
        return (
            self._stopping
            or (not busy and bool(self._line.queue))
            or any(each.call.ends_at() < math.inf for each in self._in_flight)
        )

    def _wake(self) -> None:
        with self._line.not_empty:
            self._line.not_empty.notify()

    def _start_next(self) -> None:
        entry = self._line.get_nowait()
        taken = self._store.cut(entry.ingestion_id)
        if taken is None:
            return
        batch, more = taken
        if more:
            self._line.put(entry)
        at = self._clock.now()
        self._journal.slot_taken(batch, at)
        self._store.start(batch, at)
        self._pace.take(self._clock.monotonic())
        logs.event(
            "batch_started",
            ingestion_id=batch.ingestion_id,
            batch_id=batch.batch_id,
            items=len(batch.items),
        )
        self._in_flight.append(_InFlight(batch, self._call(batch)))

    def _call(self, batch: Batch) -> Call:
        try:
            return self._upstream.start(batch, self._wake)
        except Exception as error:  # noqa: BLE001 - whatever an upstream does ends its batch only
            return FinishedCall(_crashed(batch, error))

    def _settle_ended(self, now: float) -> None:
        for each in [each for each in self._in_flight if each.call.ends_at() <= now]:
            self._settle(each)
            self._in_flight.remove(each)

    def _settle(self, ended: _InFlight) -> None:
        batch = ended.batch
        outcomes = _outcomes(ended)
        at = self._clock.now()
        self._journal.settled(batch, Settled(at, outcomes))
        counts = self._store.settle(batch, outcomes, at)
        logs.event(
            "batch_settled",
            ingestion_id=batch.ingestion_id,
            batch_id=batch.batch_id,
            succeeded=sum(outcome.succeeded for outcome in outcomes),
            failed=sum(not outcome.succeeded for outcome in outcomes),
        )
        if counts.outcome:
            logs.event("finished", ingestion_id=batch.ingestion_id, outcome=counts.outcome)


def _outcomes(ended: _InFlight) -> Sequence[Outcome]:
    """Return exactly one outcome an item, whatever the upstream came up with."""
    try:
        outcomes = list(ended.call.outcomes())
    except Exception as error:  # noqa: BLE001 - see Worker._call
        return _crashed(ended.batch, error)
    if len(outcomes) != len(ended.batch.items):
        return _crashed(ended.batch, ValueError(f"{len(outcomes)} outcomes"))
    return outcomes


def _crashed(batch: Batch, error: Exception) -> Sequence[Outcome]:
    logs.event("upstream_crashed", level=logging.ERROR, exc_info=True, batch_id=batch.batch_id)
    reason = f"The upstream crashed: {type(error).__name__}."
    return [Outcome(succeeded=False, error=reason)] * len(batch.items)
