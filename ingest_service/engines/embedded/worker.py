"""The one thread that sends batches: it drains the line in order, at the pace."""

import heapq
import itertools
import logging
import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from ingest_service import logs
from ingest_service.clock import Clock
from ingest_service.domain.model import Batch, Ingestion, ItemState, Outcome, Resend
from ingest_service.domain.pace import Pace
from ingest_service.domain.retry_policy import CircuitBreaker, RetryPolicy
from ingest_service.domain.schedule import Due, Entry, Rhythm, Rule, Situation, choose
from ingest_service.engines.embedded.in_flight import Flight, InFlight
from ingest_service.engines.embedded.journal import Instant, Journal, Recovered, Sent, Settled
from ingest_service.engines.embedded.ready_queue import Line
from ingest_service.engines.embedded.store import Store
from ingest_service.errors import StorageUnavailable
from ingest_service.upstreams.protocol import Call, FinishedCall, Upstream, crashed

#: Longest sleep at a stretch, so that a stop or a clock that jumps is noticed.
SLICE = 0.25
#: Age in seconds that the record of a start may have when the upstream is called.
PROMPT = 0.01
#: Name under which the journal keeps until when the upstream wants to be left alone.
HELD_UNTIL = "held_until"
#: The same for the reason of a pause, after a word that says whether there is one.
PAUSED = "paused"
#: And for an interval that an operator has set.
INTERVAL = "interval"


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
        patience: RetryPolicy,
        rule: Rule,
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
        self._rule = rule
        #: How many slots were ever taken.
        self._slots = 0
        #: Whether the pace was changed since the last step.
        self._nudged = False
        #: Whether the last step found the line empty.
        self._starved = False
        #: What waits for its next attempt: (when, breaks ties, its ingestion, what).
        self._retries: list[tuple[float, int, Ingestion, Resend]] = []
        self._tie = itertools.count()
        self._reach = CircuitBreaker()
        self._flight = Flight(upstream)
        #: Finished, but the journal does not know it yet.
        self._finished: deque[Ingestion] = deque()
        #: Whether there may be something to forget.
        self._pruning = False
        #: Whether the journal refused the last record.
        self._held = False
        self._stopping = False
        self._abandoned = False
        self._thread: threading.Thread | None = None

    def submit(self, ingestion: Ingestion) -> None:
        """Put an ingestion, which the store knows already, in its place in the line."""
        self.enter(ingestion, self._clock.monotonic())

    def enter(self, ingestion: Ingestion, put_at: float = -math.inf) -> None:
        """Give an ingestion a place in the line; without `put_at` nothing has to settle for it."""
        self._line.put(self._place(ingestion, put_at))

    def _place(self, ingestion: Ingestion, put_at: float) -> Entry:
        waited = (self._clock.now() - ingestion.created_at).total_seconds()
        since = self._clock.monotonic() - max(0.0, waited)
        return Entry(
            ingestion.priority, ingestion.sequence, ingestion, since, put_at, ingestion.moves
        )

    def note_cancelled(self, ingestion: Ingestion) -> None:
        """Forget its place; record its end if nothing of it is under way."""
        self._line.changed()
        if ingestion.finished_at is not None:
            self._finished.append(ingestion)
        self.nudge()

    def nudge(self) -> None:
        """Have another look at the pace: somebody has changed it."""
        self._nudged = True
        self._wake()

    def situation(self, newcomer: Entry | None = None) -> Situation:
        """Return everything that decides what is sent next, as if `newcomer` had joined."""
        now = self._clock.monotonic()
        retries = [(due, ingestion) for due, _, ingestion, _ in list(self._retries)]
        classes, filled_at = self._line.classes(), self._line.filled_at
        if newcomer is not None:
            filled_at = filled_at if any(classes) else newcomer.put_at
            classes = tuple(
                [*line, newcomer] if rank == newcomer.priority else line
                for rank, line in enumerate(classes, 1)
            )
        return Situation(
            now=now,
            rule=self._rule,
            rhythm=Rhythm(
                opens_at=self._pace.opens_at(filled_at),
                interval=self._pace.interval,
                duration=self._flight.duration,
                concurrent=self._concurrent(),
                ends=self._flight.ends(now),
            ),
            slot=self._slots,
            classes=classes,
            heads=self._line.heads(),
            retries=[
                Due(due, self._place(each, -math.inf))
                for due, each in retries
                if not each.cancelled
            ],
        )

    def end_of(self, ingestion_id: str) -> float | None:
        """Return when the batch of an ingestion that is under way will have ended, if one is."""
        return self._flight.end_of(ingestion_id, self._clock.monotonic())

    @property
    def lost(self) -> bool:
        """Whether the upstream cannot be reached."""
        return self._reach.lost

    @property
    def in_flight(self) -> list[Batch]:
        """The batches under way."""
        return [each.batch for each in self._flight]

    def resume(self, recovered: Recovered) -> None:
        """Go on where an earlier process ended; called before anything is submitted."""
        now = self._clock.monotonic()
        self._slots = recovered.slots
        if recovered.last_slot is not None:
            same_era = recovered.last_slot.boot_id == self._clock.boot_id
            self._pace.resume(recovered.last_slot.monotonic if same_era else None, now)
        for ingestion in recovered.unfinished:
            self._store.recover(ingestion)
            if ingestion.counts.status.final:
                ingestion.finished_at = self._clock.now()
                self._finished.append(ingestion)
            elif ingestion.left:
                self.submit(ingestion)
        wall = self._clock.now()
        for at, ingestion_id, again in recovered.retries:
            wait = min((at - wall).total_seconds(), self._patience.backoff_max)
            self._schedule(now + wait, self._store.find(ingestion_id), again)
        remembered = recovered.remembered
        if HELD_UNTIL in remembered:
            until = datetime.fromisoformat(remembered[HELD_UNTIL])
            wait = min((until - wall).total_seconds(), self._patience.max_hold)
            self._pace.held_until = now + wait
        paused = remembered.get(PAUSED, "")
        self._pace.paused = paused.removeprefix("yes ") if paused.startswith("yes ") else None
        chosen, _, configured = remembered.get(INTERVAL, "").partition(" ")
        if configured == repr(self._pace.interval):
            self._pace.interval = float(chosen)
        elif chosen:
            # Overruled by another setting, for good.
            self._journal.remember(INTERVAL, "")
        for batch in recovered.hopeless:
            outcome = Outcome(succeeded=False, error="crashed")
            call = FinishedCall([outcome] * len(batch.items))
            self._flight.add(batch, now, call)

    def step(self) -> float:
        """Take one turn: settle what has ended, start a batch if a slot is open.

        Return the instant at which the next turn can be of use: now or earlier
        means at once, inf means when something was put or a call has ended.

        The slot opens first, then the batch is chosen: one that was taken early
        could not be overtaken any more while it waits.
        """
        now = self._clock.monotonic()
        self._nudged = self._starved = False
        try:
            self._settle_ended(now)
            self._line_up_retries(now)
            due = self._start_due(now)
            self._prune()
        except StorageUnavailable as error:
            # Hold, instead of running ahead of the journal.
            if not self._held:
                logs.event("held", level=logging.ERROR, reason=str(error))
            self._held = True
            return now + SLICE
        if self._held:
            logs.event("healed")
            self._held = False
        return min(due, now + SLICE) if self._pruning else due

    def start(self) -> None:
        """Run the steps in a daemon thread from now on."""
        self._thread = threading.Thread(target=self._run, name="ingest-worker", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """Start nothing more, let what is in flight end; return whether that was in time.

        What was not in time is abandoned: the journal knows that it was started
        and not how it ended. May be called twice, and before `start`.
        """
        self.drain()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        self._abandoned = True
        self._wake()
        return not self._thread.is_alive()

    def drain(self) -> None:
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
        return self._stopping and (self._abandoned or not (len(self._flight) or self._finished))

    def _wait(self, due: float) -> None:
        ahead = due - self._clock.monotonic()
        if ahead <= 0:
            return
        if due == math.inf or self._flight.announced:
            timeout = None if due == math.inf else min(ahead, SLICE)
            with self._line.not_empty:
                self._clock.wait_for(self._line.not_empty, self._has_news, timeout)
        else:
            self._clock.sleep(min(ahead, SLICE))

    def _has_news(self) -> bool:
        may_start = not self._stopping and not self._busy()
        return (
            self._ended()
            or self._nudged
            # What the step saw counts: something may have been put since then.
            or (self._starved and may_start and not self._line.is_empty)
            or self._flight.next_end <= self._clock.monotonic()
        )

    def _busy(self) -> bool:
        return len(self._flight) >= self._concurrent()

    def _concurrent(self) -> int:
        return 1 if self._reach.lost else self._max_concurrent

    def _wake(self) -> None:
        with self._line.not_empty:
            self._line.not_empty.notify()

    def _start_due(self, now: float) -> float:
        """Start a batch if a slot is open; return when the next step can be of use."""
        retries = [due for due, *_ in self._retries[:1]]
        next_event = min(self._flight.next_end, *retries, math.inf)
        if self._stopping or self._busy():
            return next_event
        if not self._line.heads():
            self._starved = True
            return next_event
        opens_at = self._pace.opens_at(self._line.filled_at)
        if now < opens_at:
            return min(opens_at, next_event)
        entry = self._line.take(lambda heads: choose(heads, self._rule, self._slots, now))
        if entry is not None:
            self._start(entry)
        return now

    def _start(self, entry: Entry) -> None:
        taken = self._store.cut(entry.ingestion.ingestion_id)
        if taken is None:
            return
        batch, more = taken
        self._flight.starting = True
        try:
            at, now = self._record_start(batch)
        except StorageUnavailable:
            finished = self._store.put_back(batch, self._clock.now())
            self._finished.extend([finished] if finished else [])
            # A new place, because it may have been moved meanwhile; twice is harmless.
            self.enter(entry.ingestion)
            self._flight.starting = False
            raise
        if more:
            self._line.put(entry)
        self._pace.take(now)
        self._slots += 1
        self._flight.add(batch, now, self._call(batch))
        # Only then visible: whoever is woken by it asks when it will end.
        self._store.start(batch, at)
        logs.event(
            "batch_started",
            ingestion_id=batch.ingestion_id,
            batch_id=batch.batch_id,
            attempt=batch.attempt,
            items=len(batch.items),
        )

    def _record_start(self, batch: Batch) -> tuple[datetime, float]:
        """Record the start before it happens; return when it happens.

        After a crash the pace goes on from the record, so the record must not be
        much older than the call. A slow commit is repeated.
        """
        for _ in range(3):
            instant = self._instant()
            self._journal.slot_taken(batch, instant)
            now = self._clock.monotonic()
            if now - instant.monotonic <= PROMPT:
                break
        return instant.at, now

    def _instant(self) -> Instant:
        now = self._clock.monotonic()
        return Instant(
            self._clock.now(), now, self._clock.boot_id, self._pace.gap(now), self._pace.interval
        )

    def _call(self, batch: Batch) -> Call:
        try:
            return self._upstream.start(batch, self._wake)
        except Exception as error:  # noqa: BLE001 - whatever an upstream does ends its batch only
            return FinishedCall(crashed(batch, error))

    def _settle_ended(self, now: float) -> None:
        ended = self._flight.ended(now)
        # Before they are forgotten: the next slot counts from what went out last.
        self._pace.note_sent(self._flight.sent_at)
        for each in ended:
            self._settle(each)
        while self._finished:
            ingestion = self._finished[0]
            if ingestion.recorded:
                # Cancelled at the very moment at which its last batch ended.
                self._finished.popleft()
                continue
            self._journal.finished(ingestion)
            self._finished.popleft()
            at = self._clock.now()
            self._store.archive(ingestion.ingestion_id, at)
            self._pruning = True
            logs.event(
                "finished", ingestion_id=ingestion.ingestion_id, outcome=ingestion.counts.outcome
            )

    def _prune(self) -> None:
        """Forget a little of what is too old, step by step until nothing is."""
        if self._pruning:
            self._pruning = self._journal.prune(self._clock.now() - self._retention) > 0

    def _settle(self, ended: InFlight) -> None:
        batch, at, now = ended.batch, self._clock.now(), self._clock.monotonic()
        outcomes = ended.outcomes()
        reach = self._reach.after(outcomes)
        # An attempt that nobody can have noticed is not the item's fault.
        nobody_there = reach.lost and all(each.unreachable for each in outcomes)
        burnt = not (nobody_there or all(each.unsent for each in outcomes))
        outcomes = [self._finalise(each, batch.attempt, burnt) for each in outcomes]
        left: Sequence[int] = [
            place for place, each in zip(batch.offsets, outcomes, strict=True) if each.transient
        ]
        if len(left) == len(batch.offsets):
            # The same request again, to be known by the same key.
            left = batch.offsets
        again = batch.pick(left, batch.attempt + burnt) if left else None
        wait = self._patience.wait(batch.attempt) if burnt else 0.0
        self._hold(outcomes, at, now)
        self._journal.settled(
            batch,
            Settled(
                at,
                outcomes,
                again,
                at + timedelta(seconds=wait) if again else None,
                Sent(ended.call.sent_at(), self._clock.boot_id),
            ),
        )
        self._flight.remove(ended, now)
        self._note_reach(reach, now)
        if again is not None:
            self._schedule(now + wait, self._store.find(batch.ingestion_id), again)
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
        if outcome.attempts == attempt and not outcome.transient:
            return outcome
        exhausted = outcome.transient and burnt and attempt >= self._patience.max_attempts
        return replace(outcome, attempts=attempt, transient=outcome.transient and not exhausted)

    def _hold(self, outcomes: Sequence[Outcome], at: datetime, now: float) -> None:
        """Leave the upstream alone for as long as it asked for; only ever longer."""
        asked = max(
            (each.retry_after for each in outcomes if each.retry_after is not None), default=0.0
        )
        seconds = min(asked, self._patience.max_hold)
        if seconds and now + seconds > self._pace.held_until:
            until = at + timedelta(seconds=seconds)
            self._journal.remember(HELD_UNTIL, until.isoformat())
            self._pace.held_until = now + seconds
            logs.event("upstream_hold", level=logging.WARNING, until=until.isoformat())

    def _note_reach(self, reach: CircuitBreaker, now: float) -> None:
        if reach.lost != self._reach.lost:
            level = logging.ERROR if reach.lost else logging.INFO
            logs.event("upstream_lost" if reach.lost else "upstream_back", level=level)
        self._reach = reach
        wait = self._patience.wait_to_probe(reach, self._pace.interval)
        self._pace.probe_at = now + wait if reach.lost else -math.inf

    def _schedule(self, due: float, ingestion: Ingestion, again: Resend) -> None:
        heapq.heappush(self._retries, (due, next(self._tie), ingestion, again))

    def _line_up_retries(self, now: float) -> None:
        """Give what is due for another attempt its old place in the line."""
        while self._retries and self._retries[0][0] <= now:
            _, _, ingestion, again = heapq.heappop(self._retries)
            if ingestion.cancelled:
                continue
            if self._store.send_again(ingestion.ingestion_id, again):
                self.enter(ingestion)
