"""Handing batches to the upstream: the slot opens first, then the batch is chosen."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from ingest_service import logs
from ingest_service.domain import rollup
from ingest_service.domain.ingestion import Ingestion
from ingest_service.domain.model import Batch, ItemState
from ingest_service.domain.policy import choose
from ingest_service.domain.settlement import Decision
from ingest_service.engines import Ended, Hold, Slot
from ingest_service.engines.audit import Mark, MarkKind
from ingest_service.engines.embedded.core import Core, log_finished
from ingest_service.engines.embedded.journal import (
    Change,
    Counted,
    OperatorChanged,
    Sent,
    Settled,
    Started,
)

#: Age in seconds that the record of a start may have when the upstream is called.
PROMPT = 0.01
#: Longest time before its slot at which a batch is chosen, to be on record when the slot opens.
LONGEST_LEAD = 0.005


class _Settling(NamedTuple):
    """What settles a batch: what is recorded, and what applies it then."""

    slot: Slot
    decision: Decision
    ingestion: Ingestion
    changes: list[Change]
    apply: Callable[[], None]


class EmbeddedDispatch:
    """See `Dispatch`; called by the worker's thread only."""

    def __init__(self, core: Core) -> None:
        self._core = core
        #: When each batch under way was on the wire first, and how long after the one before.
        self._on_wire: dict[int, tuple[float, float | None]] = {}
        self._last_on_wire: float | None = None
        #: Started later than is on record, and the upstream may not tell when.
        self._late: set[int] = set()
        #: Started, but not on the wire yet.
        self._connecting: set[int] = set()
        #: How long before its slot a batch is chosen: as long as its record is likely to take.
        self._lead = 0.0
        #: Until when a hold is recorded.
        self._hold_recorded = -math.inf

    def take(self, ended: Sequence[Ended] = ()) -> Slot | float:
        """Choose and take in one go, because a better batch can join at any time.

        What has ended is settled in the same transaction as the start, where there is one.
        """
        core = self._core
        with core.changes:
            settlements = self._settlements(self._settle_first(ended))
            taken = self._choose(leaving=len(settlements))
            if not isinstance(taken, float):
                return self._start(*taken, settlements)
            self._record_and_apply(settlements)
            # What is sent again because of that may be due earlier than anything else.
            with core.lock:
                return min(taken, core.state.next_retry())

    def _choose(self, leaving: int) -> tuple[Ingestion, Batch] | float:
        """Return what the open slot serves, or when to look again; `leaving` batches are done."""
        core, state = self._core, self._core.state
        with core.lock:
            now = core.clock.monotonic()
            state.join_due(now)
            if core.draining:
                return math.inf
            if len(state.in_flight) - leaving >= core.concurrent:
                return state.next_retry()
            if self._connecting and state.pace.interval:
                # The interval counts from when that is on the wire.
                return state.next_retry()
            heads = state.ready.heads()
            if not heads:
                return state.next_retry()
            due = state.pace.opens_at(state.filled_at) - self._lead
            if now < due:
                return min(due, state.next_retry())
            chosen = 0
            if heads[1:]:
                entries = [state.entry(head, now) for head in heads]
                chosen = choose(entries, core.options.rule, state.slots, now)
            return state.take(heads[chosen].priority)

    def confirm(self, slot: Slot) -> bool:
        """Nobody can have taken another slot in between."""
        return slot in self._core.state.in_flight

    def called(self, slot: Slot, ends_at: float | None) -> None:
        """Tell whoever waits for the call that it was made; the pace counts from then."""
        core, state = self._core, self._core.state
        with core.lock:
            state.in_flight.note_called(slot, ends_at)
            # A call that came late, and the next one at its slot, would be too close.
            state.pace = state.pace.sent(core.clock.monotonic())
            core.started.notify_all()

    def sent(self, slot: Slot, at: float) -> None:
        """Note when the batch was on the wire first; the pace counts from the last request."""
        with self._core.lock:
            self._connecting.discard(slot.number)
            self._core.state.pace = self._core.state.pace.sent(at)
        if slot.number not in self._on_wire and math.isfinite(at):
            last = self._last_on_wire
            # Without an interval several connect at a time, and one can overtake another.
            latest = at if last is None else max(at, last)
            self._on_wire[slot.number] = at, None if last is None else latest - last
            self._last_on_wire = latest

    def hold(self, until: float) -> None:
        """In effect at once, because it protects the upstream; then durable."""
        core = self._core
        with core.changes:
            with core.lock:
                core.state.meter.advance(core.state.pace, core.clock.monotonic())
                core.state.pace = core.state.pace.held(until)
                until = core.state.pace.held_until
            if until <= self._hold_recorded:
                return
            instant = core.instant(until)
            before = core.state.operator
            after = replace(before, hold=Hold(instant.at, until, instant.boot_id))
            mark = Mark(
                core.clock.now(),
                MarkKind.HOLD,
                before.hold and before.hold.at.isoformat(),
                instant.at.isoformat(),
            )
            core.journal.record(OperatorChanged(after), mark)
            self._hold_recorded = until
            with core.lock:
                core.set_operator(after)
        logs.event("upstream_hold", level=logging.WARNING, until=instant.at.isoformat())

    def settle(self, slot: Slot, decision: Decision) -> None:
        """Record and apply; if that finishes the ingestion, in the same transaction."""
        with self._core.changes:
            self._record_and_apply(self._settlements([(slot, decision)]))

    def _settle_first(self, ended: Sequence[Ended]) -> list[Ended]:
        """Settle what may decide what is started next; return the others."""
        others: dict[str, Ended] = {}
        for slot, decision in ended:
            breaker_moves = (
                decision.probe_wait is not None or self._core.state.pace.probe_at > -math.inf
            )
            joins_now = decision.resend is not None and not decision.wait
            if breaker_moves and others:
                # They were decided before, and would let it be forgotten again.
                self._record_and_apply(self._settlements(list(others.values())))
                others.clear()
            # Two batches of one ingestion: which of them finishes it depends on the other.
            if breaker_moves or joins_now or slot.batch.ingestion_id in others:
                self._record_and_apply(self._settlements([(slot, decision)]))
            else:
                others[slot.batch.ingestion_id] = slot, decision
        return list(others.values())

    def _record_and_apply(self, settlements: Sequence[_Settling]) -> None:
        if settlements:
            self._core.journal.record(*_changes(settlements))
            self._apply(settlements)

    def _settlements(self, ended: Sequence[Ended]) -> list[_Settling]:
        """Return what settles batches of ingestions of their own."""
        core, settlements = self._core, []
        for slot, decision in ended:
            ingestion = core.state.get(slot.batch.ingestion_id)
            if slot not in core.state.in_flight or ingestion is None:
                continue
            at = core.instant(decision.decided_at).at
            resend_at = at + timedelta(seconds=decision.wait) if decision.resend else None
            settled = Settled(slot.batch, at, decision.outcomes, decision.resend, resend_at)
            seconds = self._seconds(slot, decision)
            changes, apply = core.settlement(ingestion, settled, decision.states, seconds)
            changes = [*self._sent_record(slot), *changes]
            settlements.append(_Settling(slot, decision, ingestion, changes, apply))
        return settlements

    def _apply(self, settlements: Sequence[_Settling]) -> None:
        state = self._core.state
        for settling in settlements:
            slot, decision, ingestion = settling.slot, settling.decision, settling.ingestion
            with self._core.lock:
                self._forget(slot, decision)
                if decision.resend is not None and not ingestion.cancelled:
                    due = decision.decided_at + decision.wait
                    state.schedule(ingestion, decision.resend, due)
                settling.apply()
            _log_settled(slot.batch, decision)
            log_finished(ingestion)

    def _start(self, ingestion: Ingestion, batch: Batch, settlements: Sequence[_Settling]) -> Slot:
        core, state = self._core, self._core.state
        number, interval = state.slots + 1, state.pace.interval
        try:
            at, now, late = self._record_start(ingestion, batch, number, settlements)
        except BaseException:
            with core.lock:
                state.put_back(ingestion)
            raise
        fills = len(state.in_flight) + 1 >= core.concurrent
        slot = Slot(number, batch, now, interval, fills)
        if late:
            self._late.add(number)
        with core.lock:
            self._connecting.add(number)
            state.start(ingestion, slot, at)
        logs.event(
            "batch_started",
            ingestion_id=batch.ingestion_id,
            batch_id=batch.batch_id,
            attempt=batch.attempt,
            items=len(batch.items),
        )
        return slot

    def _record_start(
        self, ingestion: Ingestion, batch: Batch, number: int, settlements: Sequence[_Settling]
    ) -> tuple[datetime, float, bool]:
        """Record the start before it happens; return the time on record, and when it happens.

        After a crash the pace goes on from the record, so the record must not be
        much older than the call, and at last whether it is. A slow commit is repeated; people
        are told the first time.
        A record that was made before its slot opens is of that moment, which is awaited.
        """
        core, pace, changes = self._core, self._core.state.pace, _changes(settlements)
        times: list[datetime] = []
        began, opens_at = core.clock.monotonic(), pace.opens_at(core.state.filled_at)
        for _ in range(3):
            instant = core.instant(max(opens_at, core.clock.monotonic()))
            times.append(instant.at)
            gap = pace.gap(instant.monotonic)
            counted = [] if times[1:] else [_count_start(ingestion, batch, instant.at, gap)]
            started = Started(batch, instant, number, gap, pace.interval)
            core.journal.record(*changes, started, *counted)
            if changes:
                self._apply(settlements)
                changes = []
            now = core.clock.monotonic()
            late = now - instant.monotonic > PROMPT
            if not late:
                break
        # Twice what it took: half of them take longer than the last one did.
        self._lead = min(2 * (now - began), LONGEST_LEAD)
        while now < opens_at:
            core.clock.sleep(opens_at - now)
            now = core.clock.monotonic()
        return times[0], now, late

    def _seconds(self, slot: Slot, decision: Decision) -> float:
        """Return how long the upstream had a batch."""
        sent_at, _ = self._on_wire.get(slot.number, (slot.at, None))
        return max(0.0, decision.ended_at - sent_at)

    def _sent_record(self, slot: Slot) -> list[Change]:
        if slot.number not in self._on_wire:
            late = slot.number in self._late
            return [Sent(slot.batch, self._core.instant(slot.at), None)] if late else []
        at, gap = self._on_wire[slot.number]
        # The pace counts from the last request of all; only what was sent first is judged.
        last = max(at, self._core.state.pace.last_at if self._is_last(slot) else at)
        return [Sent(slot.batch, self._core.instant(last), gap)]

    def _is_last(self, slot: Slot) -> bool:
        return slot.number == self._core.state.slots

    def _forget(self, slot: Slot, decision: Decision) -> None:
        state = self._core.state
        self._on_wire.pop(slot.number, None)
        self._late.discard(slot.number)
        self._connecting.discard(slot.number)
        state.in_flight.remove(slot, decision.ended_at)
        probe_at = -math.inf
        if decision.probe_wait is not None:
            probe_at = decision.decided_at + decision.probe_wait
        if probe_at != state.pace.probe_at:
            state.pace = state.pace._replace(probe_at=probe_at)


def _count_start(ingestion: Ingestion, batch: Batch, at: datetime, gap: float | None) -> Counted:
    """Return what counts a start, with how long its batch has waited if it is the first."""
    waited = None
    if batch.start_no == 1:
        waited = (at - ingestion.submission.created_at).total_seconds()
    return Counted(at, rollup.started(ingestion.priority, len(batch.offsets), gap, waited))


def _changes(settlements: Sequence[_Settling]) -> list[Change]:
    return [change for settling in settlements for change in settling.changes]


def _log_settled(batch: Batch, decision: Decision) -> None:
    states = decision.states
    logs.event(
        "batch_settled",
        ingestion_id=batch.ingestion_id,
        batch_id=batch.batch_id,
        succeeded=states.count(ItemState.SUCCEEDED),
        failed=states.count(ItemState.FAILED),
        retrying=len(decision.resend.offsets) if decision.resend else 0,
    )
