"""The one thread that sends batches: it drains the line in order, at the pace."""

import heapq
import itertools
import logging
import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ingest_service import logs
from ingest_service.clock import Clock
from ingest_service.errors import StorageUnavailable
from ingest_service.journal import Instant, Journal, Recovered, Settled, encode_outcomes
from ingest_service.line import Entry, Line
from ingest_service.model import Again, Batch, Ingestion, ItemState, Outcome
from ingest_service.pace import Pace
from ingest_service.patience import Patience, Reach
from ingest_service.store import Store
from ingest_service.upstream import Call, FinishedCall, Upstream, crashed

#: Longest sleep at a stretch, so that a stop or a clock that jumps is noticed.
SLICE = 0.25
#: Age in seconds that the record of a start may have when the upstream is called.
PROMPT = 0.01
#: Name under which the journal keeps until when the upstream wants to be left alone.
HELD_UNTIL = "held_until"


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
        patience: Patience,
    ) -> None:
        self._clock = clock
        self._pace = pace
        self._line = line
        self._store = store
        self._journal = journal
        self._upstream = upstream
        self._max_concurrent = max_concurrent
        self._retention = retention
        self._patience = patience
        #: What waits for its next attempt: (when, breaks ties, id of its ingestion, what).
        self._retries: list[tuple[float, int, str, Again]] = []
        self._tie = itertools.count()
        self._reach = Reach()
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
        self._enter(ingestion, self._clock.monotonic())

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
        wall = self._clock.now()
        for at, ingestion_id, again in recovered.retries:
            wait = min((at - wall).total_seconds(), self._patience.backoff_max)
            self._schedule(now + wait, ingestion_id, again)
        if HELD_UNTIL in recovered.remembered:
            until = datetime.fromisoformat(recovered.remembered[HELD_UNTIL])
            wait = min((until - wall).total_seconds(), self._patience.max_hold)
            self._pace.held_until = now + wait
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
            self._line_up_retries(now)
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
        ahead = due - self._clock.monotonic()
        if ahead <= 0:
            return
        if due == math.inf or any(each.call.announced for each in self._in_flight):
            timeout = None if due == math.inf else min(ahead, SLICE)
            with self._line.not_empty:
                waited_for_work = not self._line.queue
                self._clock.wait_for(
                    self._line.not_empty, lambda: self._has_news(waited_for_work), timeout
                )
        else:
            self._clock.sleep(min(ahead, SLICE))

    def _has_news(self, waited_for_work: bool) -> bool:
        now = self._clock.monotonic()
        may_start = not self._stopping and not self._busy()
        return (
            self._ended()
            or (waited_for_work and may_start and bool(self._line.queue))
            or any(each.call.ends_at() <= now for each in self._in_flight)
        )

    def _busy(self) -> bool:
        return len(self._in_flight) >= (1 if self._reach.lost else self._max_concurrent)

    def _wake(self) -> None:
        with self._line.not_empty:
            self._line.not_empty.notify()

    def _start_due(self, now: float) -> float:
        """Start a batch if a slot is open; return when the next step can be of use."""
        ends = [each.call.ends_at() for each in self._in_flight]
        retries = [due for due, *_ in self._retries[:1]]
        next_event = min([*ends, *retries], default=math.inf)
        if self._stopping or self._busy() or self._line.head() is None:
            return next_event
        opens_at = self._pace.opens_at(self._line.filled_at)
        if now < opens_at:
            return min(opens_at, next_event)
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
            return FinishedCall(crashed(batch, error))

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
        batch, at, now = ended.batch, self._clock.now(), self._clock.monotonic()
        outcomes = _outcomes(ended)
        reach = self._reach.after(outcomes)
        # An attempt while nobody can be reached is not the item's fault.
        burnt = not (reach.lost and all(each.unreachable for each in outcomes))
        outcomes = [self._finalise(each, batch.attempt, burnt) for each in outcomes]
        left = [at for at, each in zip(batch.places, outcomes, strict=True) if each.transient]
        again = batch.pick(left, batch.attempt + burnt) if left else None
        wait = self._patience.wait(batch.attempt) if burnt else 0.0
        self._hold(outcomes, at, now)
        self._journal.settled(
            batch, Settled(at, outcomes, again, at + timedelta(seconds=wait) if again else None)
        )
        self._in_flight.remove(ended)
        self._note_reach(reach, now)
        if again is not None:
            self._schedule(now + wait, batch.ingestion_id, again)
        ingestion = self._store.settle(batch, outcomes, at)
        logs.event(
            "batch_settled",
            ingestion_id=batch.ingestion_id,
            batch_id=batch.batch_id,
            succeeded=sum(outcome.succeeded for outcome in outcomes),
            failed=sum(outcome.state is ItemState.FAILED for outcome in outcomes),
            retrying=len(left),
        )
        if ingestion is not None:
            self._finished.append(ingestion)

    def _finalise(self, outcome: Outcome, attempt: int, burnt: bool) -> Outcome:
        """Return the outcome with its number of attempts; the last attempt makes it final."""
        exhausted = outcome.transient and burnt and attempt >= self._patience.max_attempts
        return replace(outcome, attempts=attempt, transient=outcome.transient and not exhausted)

    def _hold(self, outcomes: Sequence[Outcome], at: datetime, now: float) -> None:
        """Leave the upstream alone for as long as it asked for; only ever longer."""
        asked = max((each.hold for each in outcomes if each.hold is not None), default=0.0)
        seconds = min(asked, self._patience.max_hold)
        if seconds and now + seconds > self._pace.held_until:
            until = at + timedelta(seconds=seconds)
            self._journal.remember(HELD_UNTIL, until.isoformat())
            self._pace.held_until = now + seconds
            logs.event("upstream_hold", level=logging.WARNING, until=until.isoformat())

    def _note_reach(self, reach: Reach, now: float) -> None:
        if reach.lost != self._reach.lost:
            level = logging.ERROR if reach.lost else logging.INFO
            logs.event("upstream_lost" if reach.lost else "upstream_back", level=level)
        self._reach = reach
        wait = self._patience.wait_to_probe(reach, self._pace.interval)
        self._pace.probe_at = now + wait if reach.lost else -math.inf

    def _schedule(self, due: float, ingestion_id: str, again: Again) -> None:
        heapq.heappush(self._retries, (due, next(self._tie), ingestion_id, again))

    def _line_up_retries(self, now: float) -> None:
        """Give what is due for another attempt its old place in the line."""
        while self._retries and self._retries[0][0] <= now:
            _, _, ingestion_id, again = heapq.heappop(self._retries)
            ingestion = self._store.send_again(ingestion_id, again)
            if ingestion is not None:
                # Not new, so nothing has to settle.
                self._enter(ingestion, -math.inf)

    def _enter(self, ingestion: Ingestion, put_at: float) -> None:
        self._line.put(
            Entry(ingestion.priority, ingestion.sequence, ingestion.ingestion_id, put_at)
        )


def _outcomes(ended: _InFlight) -> list[Outcome]:
    """Return exactly one outcome an item that can be kept, whatever the upstream came up with."""
    try:
        outcomes = [_storable(outcome) for outcome in ended.call.outcomes()]
    except Exception as error:  # noqa: BLE001 - see Worker._call
        return crashed(ended.batch, error)
    if len(outcomes) != len(ended.batch.items):
        return crashed(ended.batch, ValueError(f"{len(outcomes)} outcomes"))
    return outcomes


def _storable(outcome: Outcome) -> Outcome:
    try:
        encode_outcomes([outcome])
    except TypeError:
        return Outcome(succeeded=False, error="The answer cannot be kept: it is not JSON.")
    return outcome
