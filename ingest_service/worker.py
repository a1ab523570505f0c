"""The one thread that sends batches: it drains the line in order, at the pace."""

import logging
import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ingest_service import logs
from ingest_service.clock import Clock
from ingest_service.errors import StorageUnavailable
from ingest_service.journal import Instant, Journal, Recovered, Settled
from ingest_service.line import Entry, Line
from ingest_service.model import Batch, Ingestion, Outcome
from ingest_service.pace import Pace
from ingest_service.store import Store
from ingest_service.upstream import Call, FinishedCall, Upstream

#: Longest sleep at a stretch, so that a stop or a clock that jumps is noticed.
SLICE = 0.25
#: Age in seconds that the record of a start may have when the upstream is called.
PROMPT = 0.01


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
        retention: timedelta,
    ) -> None:
        self._clock = clock
        self._pace = pace
        self._line = line
        self._store = store
        self._journal = journal
        self._upstream = upstream
        self._max_concurrent = max_concurrent
        self._retention = retention
        self._in_flight: list[_InFlight] = []
        #: Finished, but the journal does not know it yet.
        self._finished: deque[Ingestion] = deque()
        #: Whether the journal refused the last record.
        self._held = False
        self._stopping = False
        self._abandoned = False
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

    def resume(self, recovered: Recovered) -> None:
        """Go on where an earlier process ended; called before anything is submitted."""
        now = self._clock.monotonic()
        if recovered.last_slot is not None:
            same_era = recovered.last_slot.era == self._clock.era
            self._pace.resume(recovered.last_slot.monotonic if same_era else None, now)
        for ingestion in recovered.unfinished:
            self._store.recover(ingestion)
            if ingestion.counts.status.final:
                ingestion.finished_at = self._clock.now()
                self._finished.append(ingestion)
            elif ingestion.has_more:
                self.submit(ingestion)
        for batch in recovered.hopeless:
            outcome = Outcome(succeeded=False, error="crashed")
            self._in_flight.append(_InFlight(batch, FinishedCall([outcome] * len(batch.items))))

    def step(self) -> float:
        """Take one turn: settle what has ended, start a batch if a slot is open.

        Return the instant at which the next turn can be of use: now or earlier
        means at once, inf means when something was put or a call has ended.

        The slot opens first, then the batch is chosen: one that was taken early
        could not be overtaken any more while it waits.
        """
        now = self._clock.monotonic()
        try:
            self._settle_ended(now)
            due = self._start_due(now)
        except StorageUnavailable as error:
            # Hold, instead of running ahead of the journal.
            if not self._held:
                logs.event("held", level=logging.ERROR, reason=str(error))
            self._held = True
            return now + SLICE
        if self._held:
            logs.event("healed")
            self._held = False
        return due

    def start(self) -> None:
        """Run the steps in a daemon thread from now on."""
        self._thread = threading.Thread(target=self._run, name="ingest-worker", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """Start nothing more, let what is in flight end; return whether that was in time.

        What was not in time is abandoned: the journal knows that it was started
        and not how it ended. May be called twice, and before `start`.
        """
        self.hold()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        self._abandoned = True
        self._wake()
        return not self._thread.is_alive()

    def hold(self) -> None:
        """Start nothing more from now on."""
        self._stopping = True
        self._wake()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Whether it was told to start nothing more."""
        return self._stopping

    def _run(self) -> None:
        while not self._ended():
            try:
                due = self.step()
            except Exception:  # noqa: BLE001 - the thread must outlive its bugs
                logs.event("worker_error", level=logging.ERROR, exc_info=True)
                due = self._clock.monotonic() + SLICE
            self._wait(due)

    def _ended(self) -> bool:
        return self._stopping and (self._abandoned or not (self._in_flight or self._finished))

    def _wait(self, due: float) -> None:
        if due == math.inf:
            with self._line.not_empty:
                self._clock.wait_for(self._line.not_empty, self._has_news)
        elif (ahead := due - self._clock.monotonic()) > 0:
            self._clock.sleep(min(ahead, SLICE))

    def _has_news(self) -> bool:
        may_start = not self._stopping and len(self._in_flight) < self._max_concurrent
        return (
            self._ended()
            or (may_start and bool(self._line.queue))
            or any(each.call.ends_at() < math.inf for each in self._in_flight)
        )

    def _wake(self) -> None:
        with self._line.not_empty:
            self._line.not_empty.notify()

    def _start_due(self, now: float) -> float:
        """Start a batch if a slot is open; return when the next step can be of use."""
        next_end = min((each.call.ends_at() for each in self._in_flight), default=math.inf)
        busy = self._stopping or len(self._in_flight) >= self._max_concurrent
        if busy or self._line.head() is None:
            return next_end
        opens_at = self._pace.opens_at(self._line.filled_at)
        if now < opens_at:
            return min(opens_at, next_end)
        self._start(self._line.get_nowait())
        return now

    def _start(self, entry: Entry) -> None:
        taken = self._store.cut(entry.ingestion_id)
        if taken is None:
            return
        batch, more = taken
        try:
            at, now = self._record_start(batch)
        except StorageUnavailable:
            self._store.put_back(batch)
            self._line.put(entry)
            raise
        if more:
            self._line.put(entry)
        self._store.start(batch, at)
        self._pace.take(now)
        logs.event(
            "batch_started",
            ingestion_id=batch.ingestion_id,
            batch_id=batch.batch_id,
            attempt=batch.attempt,
            items=len(batch.items),
        )
        self._in_flight.append(_InFlight(batch, self._call(batch)))

    def _record_start(self, batch: Batch) -> tuple[datetime, float]:
        """Record the start before it happens; return when it happens.

        After a crash the pace goes on from the record, so the record must not be
        much older than the call. A slow commit is repeated.
        """
        for _ in range(3):
            instant = Instant(self._clock.now(), self._clock.monotonic(), self._clock.era)
            self._journal.slot_taken(batch, instant)
            now = self._clock.monotonic()
            if now - instant.monotonic <= PROMPT:
                break
        return instant.at, now

    def _call(self, batch: Batch) -> Call:
        try:
            return self._upstream.start(batch, self._wake)
        except Exception as error:  # noqa: BLE001 - whatever an upstream does ends its batch only
            return FinishedCall(_crashed(batch, error))

    def _settle_ended(self, now: float) -> None:
        for each in [each for each in self._in_flight if each.call.ends_at() <= now]:
            self._settle(each)
        while self._finished:
            ingestion = self._finished[0]
            self._journal.finished(ingestion)
            self._finished.popleft()
            at = self._clock.now()
            self._store.archive(ingestion.ingestion_id, at)
            self._journal.prune(at - self._retention)
            logs.event(
                "finished", ingestion_id=ingestion.ingestion_id, outcome=ingestion.counts.outcome
            )

    def _settle(self, ended: _InFlight) -> None:
        batch = ended.batch
        outcomes = _outcomes(ended)
        at = self._clock.now()
        self._journal.settled(batch, Settled(at, outcomes))
        self._in_flight.remove(ended)
        ingestion = self._store.settle(batch, outcomes, at)
        logs.event(
            "batch_settled",
            ingestion_id=batch.ingestion_id,
            batch_id=batch.batch_id,
            succeeded=sum(outcome.succeeded for outcome in outcomes),
            failed=sum(not outcome.succeeded for outcome in outcomes),
        )
        if ingestion is not None:
            self._finished.append(ingestion)


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
