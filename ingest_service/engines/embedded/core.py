"""What the parts of this engine share: the locks, the state behind them, the journal.

Two locks, always in this order. `changes` is held by whoever decides, records and
applies a change of what was accepted, so that no other change can come in between;
it may be held as long as the disk takes. `lock` guards the state itself, is held for
microseconds, and is all that readers and new requests need.
"""

import itertools
import logging
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from ingest_service import logs
from ingest_service.clock import Clock
from ingest_service.domain import rollup
from ingest_service.domain.caller import Caller
from ingest_service.domain.ingestion import Ingestion
from ingest_service.domain.model import Outcome, states_of
from ingest_service.domain.pace import Pace
from ingest_service.domain.slot_times import SlotModel
from ingest_service.domain.snapshot import WorkerState
from ingest_service.engines import Hold, OperatorState
from ingest_service.engines.audit import Mark, MarkKind
from ingest_service.engines.embedded.journal import (
    Change,
    Counted,
    Finished,
    Instant,
    Journal,
    OperatorChanged,
    Recovered,
    Settled,
)
from ingest_service.engines.embedded.state import QueueState
from ingest_service.engines.history import INTERVAL_KEY
from ingest_service.engines.options import EngineOptions
from ingest_service.errors import IngestionNotFound, Stopping, StorageUnavailable

#: How long the worker can take from the record of a start to the call, in seconds.
STARTS_WITHIN = 5.0


class Core:
    """The owner of the queue's state, for the parts of this package only."""

    def __init__(
        self,
        clock: Clock,
        journal: Journal,
        options: EngineOptions,
        pace: Pace,
        latency: Callable[[], float | None],
    ) -> None:
        self.clock = clock
        self.journal = journal
        self.options = options
        self.changes = threading.Lock()
        self.lock = threading.Lock()
        #: Notified when a batch that was taken is with the upstream, or nothing starts any more.
        self.started = threading.Condition(self.lock)
        self.state = QueueState(pace, latency, clock.monotonic())
        self.sequence = itertools.count(1)
        #: Whether nothing is started and nothing taken any more.
        self.draining = False
        #: Tells the worker to look again; called with or without the locks.
        self.wake: Callable[[], None] = lambda: None
        self.worker_state: Callable[[], WorkerState] = lambda: WorkerState(alive=False)
        #: By sequence, when some of the unfinished ingestions were expected to end (monotonic).
        self.expected: dict[int, float] = {}
        #: What was found at the start and has to be recorded.
        self._overdue: list[Callable[[], Settlement]] = []

    @property
    def concurrent(self) -> int:
        """How many batches may be under way: one while the upstream cannot be reached."""
        return 1 if self.state.pace.probe_at > -math.inf else self.options.max_concurrent

    def slot_model(self, now: float, filled_at: float) -> SlotModel:
        """Return when slots open for a queue not empty since `filled_at`; the lock is held."""
        pace, in_flight = self.state.pace, self.state.in_flight
        return SlotModel(
            opens_at=pace.opens_at(filled_at),
            interval=pace.interval,
            duration=in_flight.duration,
            concurrent=self.concurrent,
            ends=in_flight.ends(now),
        )

    def instant(self, monotonic: float | None = None) -> Instant:
        """Return this moment, or that of a reading of the monotonic clock, on both clocks."""
        now = self.clock.monotonic()
        if monotonic is None:
            return Instant(self.clock.now(), now, self.clock.boot_id)
        at = self.clock.now() - timedelta(seconds=now - monotonic)
        return Instant(at, monotonic, self.clock.boot_id)

    def mark(
        self, kind: MarkKind, caller: Caller, target: str | None, before: Any, after: Any
    ) -> Mark:
        """Return the record of what the caller does now, to an ingestion or to the queue."""
        return Mark(self.clock.now(), kind, before, after, caller.key, target, caller.request_id)

    def check_not_draining(self) -> None:
        """Raise `Stopping` if nothing is taken any more."""
        if self.draining:
            raise Stopping("The service is stopping and takes no new work.")

    def depth(self) -> rollup.Counts:
        """Return how much waits, see `rollup.both`."""
        with self.lock:
            return self.state.index.depth()

    def is_expired(self, finished_at: datetime | None) -> bool:
        """Tell whether the retention of what finished then is over."""
        return finished_at is not None and finished_at < self.expiry()

    def expiry(self) -> datetime:
        """Return the moment such that what finished before it is gone."""
        return self.clock.now() - self.options.retention

    def remembered(self, ingestion_id: str) -> Ingestion | None:
        """Return what is in memory and not expired; for whoever holds the lock."""
        ingestion = self.state.get(ingestion_id)
        if ingestion is not None and self.is_expired(ingestion.finished_at):
            raise IngestionNotFound
        return ingestion

    def since(self, created_at: datetime) -> float:
        """Return the monotonic instant of a time in the past."""
        waited = (self.clock.now() - created_at).total_seconds()
        return self.clock.monotonic() - max(0.0, waited)

    def drain(self) -> None:
        """Start nothing and take nothing from now on."""
        with self.lock:
            self.draining = True
            self.started.notify_all()
            self.state.watches.release()
        self.wake()

    def await_start(self, ingestion_id: str | None = None) -> None:
        """Wait until no batch (of one ingestion) is between its record and the upstream.

        After the answer to whoever stops something, nothing of it may be started.
        """
        with self.lock:
            under_way = self.state.in_flight
            if under_way.is_starting(ingestion_id):
                self.clock.wait_for(
                    self.started,
                    lambda: self.draining or not under_way.is_starting(ingestion_id),
                    STARTS_WITHIN,
                )

    # --- After a restart ---

    def recover(self, recovered: Recovered) -> None:
        """Go on where an earlier process ended; called once, before anything else."""
        now, state = self.clock.monotonic(), self.state
        self.sequence = itertools.count(recovered.last_sequence + 1)
        state.slots = recovered.slots
        state.operator, overruled = self._ruling(recovered.operator or OperatorState())
        state.pace = self._resumed_pace(recovered, now)
        at, ingestions = self.clock.now(), recovered.unfinished
        waited = [(at - one.submission.created_at).total_seconds() for one in ingestions]
        state.add_all(ingestions, [now - max(0.0, seconds) for seconds in waited], now)
        for at, ingestion_id, resend in recovered.retries:
            waiting = state.get(ingestion_id)
            wait = (at - self.clock.now()).total_seconds()
            if waiting is not None:
                longest = self.options.retry_policy.backoff_max
                state.schedule(waiting, resend, now + min(wait, longest))
        self._note_overdue(recovered, overruled=overruled)
        # What the disk does not take now, the worker records later.
        with suppress(StorageUnavailable):
            self.record_overdue()

    def record_overdue(self) -> None:
        """Record what was found at the start; raise `StorageUnavailable` to be called again."""
        while self._overdue:
            with self.changes:
                changes, apply = self._overdue[0]()
                if changes:
                    self.journal.record(*changes)
                with self.lock:
                    apply()
            del self._overdue[0]

    def _resumed_pace(self, recovered: Recovered, now: float) -> Pace:
        pace, operator = self.state.pace, self.state.operator
        if recovered.last_slot is not None:
            # Of a start without an end nobody knows when its request went out.
            certain = recovered.last_slot.boot_id == self.clock.boot_id and not recovered.unsettled
            pace = pace.resumed(recovered.last_slot.monotonic if certain else None, now)
        if operator.interval is not None:
            pace = pace._replace(interval=operator.interval)
        pace = pace._replace(paused=operator.paused)
        return pace if operator.hold is None else pace.held(self._held_until(operator.hold, now))

    def _ruling(self, operator: OperatorState) -> tuple[OperatorState, bool]:
        """Return what an operator wanted and still holds, and whether a setting overrules some."""
        if operator.interval is None or operator.configured_interval == self.options.interval:
            return operator, False
        return replace(operator, interval=None, configured_interval=None), True

    def _held_until(self, hold: Hold, now: float) -> float:
        """Return until when a hold lasts, whoever has set the clock meanwhile."""
        left = (hold.at - self.clock.now()).total_seconds()
        if hold.boot_id == self.clock.boot_id:
            left = hold.monotonic - now
        return now + min(left, self.options.retry_policy.max_retry_after)

    def _note_overdue(self, recovered: Recovered, *, overruled: bool) -> None:
        """Note what is finished without a record of it, and that this is a restart."""
        at = self.clock.now()
        after = {"unfinished": len(recovered.unfinished), INTERVAL_KEY: self.state.pace.interval}
        mark = Mark(at, MarkKind.RESTART, None, after)
        # The minute begins with what is left of the one before.
        self._overdue.append(lambda: ([mark, Counted(at, {})], lambda: None))
        if overruled:
            # For good; with whatever somebody wants by the time that it is recorded.
            self._overdue.append(
                lambda: ([OperatorChanged(self.state.operator)], lambda: None),
            )
        for batch in recovered.hopeless:
            outcomes = [Outcome(succeeded=False, error="crashed")] * len(batch.offsets)
            self._overdue.append(partial(self._settle_hopeless, Settled(batch, at, outcomes)))
        for ingestion in recovered.unfinished:
            if ingestion.counts.status.final:
                self._overdue.append(partial(self._end, ingestion, at))

    def set_operator(self, operator: OperatorState) -> None:
        """Let what an operator wants take effect; for whoever holds the lock."""
        self.state.meter.advance(self.state.pace, self.clock.monotonic())
        interval = self.options.interval if operator.interval is None else operator.interval
        self.state.operator = operator
        self.state.pace = self.state.pace._replace(paused=operator.paused, interval=interval)

    def attach(self, wake: Callable[[], None], worker_state: Callable[[], WorkerState]) -> None:
        """Say who drains the queue."""
        self.wake, self.worker_state = wake, worker_state

    def settlement(
        self,
        ingestion: Ingestion,
        settled: Settled,
        states: bytes,
        seconds: float | None = None,
    ) -> "Settlement":
        """Return what settles a batch: the changes to record, and what applies them.

        `states` are those of the outcomes; `seconds` is how long the upstream took, None if
        nobody knows.
        """
        batch, outcomes, at = settled.batch, settled.outcomes, settled.at
        counts = rollup.settled(ingestion.priority, outcomes, cancelled=ingestion.cancelled)
        if seconds is not None:
            rollup.UPSTREAM.count(counts, seconds)
        changes: list[Change] = [settled, Counted(at, counts)]
        expected = self.expected.get(ingestion.sequence)
        last = ingestion.states_after(batch, states)
        if last is not None:
            changes.append(finished(ingestion, last, at))
            if expected is not None:
                rollup.add(counts, rollup.estimate_error(self.clock.monotonic() - expected))

        def apply() -> None:
            self.state.settle(ingestion, batch, states, at)
            if ingestion.finished_at is not None:
                self.expected.pop(ingestion.sequence, None)

        return changes, apply

    def _settle_hopeless(self, settled: Settled) -> "Settlement":
        ingestion = self.state.get(settled.batch.ingestion_id)
        if ingestion is None or not ingestion.is_open(settled.batch):
            # It was cancelled before that could be recorded.
            return _NOTHING
        return self.settlement(ingestion, settled, states_of(settled.outcomes))

    def _end(self, ingestion: Ingestion, at: datetime) -> "Settlement":
        if not ingestion.counts.status.final:
            # It was opened again before its end could be recorded.
            return _NOTHING
        record = finished(ingestion, ingestion.item_states, at)
        return [record], lambda: self.state.finish(ingestion, at)


#: The changes to record, and what applies them afterwards.
Settlement = tuple[list[Change], Callable[[], None]]
_NOTHING: Settlement = [], lambda: None


def finished(ingestion: Ingestion, states: bytearray, at: datetime) -> Finished:
    """Return the record of the end of an ingestion, with `states` as its items' last ones."""
    return Finished(
        ingestion.sequence, ingestion.ingestion_id, at, bytes(states), ingestion.counts.of(states)
    )


def log_finished(ingestion: Ingestion) -> None:
    """Say that an ingestion is finished, if it is."""
    if ingestion.finished_at is not None:
        logs.event(
            "finished",
            ingestion_id=ingestion.ingestion_id,
            outcome=ingestion.counts.outcome,
            level=logging.INFO,
        )
