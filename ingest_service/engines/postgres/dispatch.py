"""Handing batches to the upstream: a slot is one transaction, then confirmed, then sent."""

import logging
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from ingest_service import logs
from ingest_service.clock import Clock
from ingest_service.domain import rollup
from ingest_service.domain.items import Kind
from ingest_service.domain.model import Batch, ItemState, Priority, batch_ids
from ingest_service.domain.policy import choose
from ingest_service.domain.retry_policy import CircuitBreaker
from ingest_service.domain.settlement import Decision
from ingest_service.engines import Ended, Slot
from ingest_service.engines.audit import MarkKind
from ingest_service.engines.chunks import Chunk, join_items
from ingest_service.engines.history import INTERVAL_KEY
from ingest_service.engines.offsets import pack_offsets, unpack_offsets
from ingest_service.engines.options import EngineOptions
from ingest_service.engines.postgres.database import Connection, Database, Transaction
from ingest_service.engines.postgres.marks import add_mark
from ingest_service.engines.postgres.rollups import count
from ingest_service.engines.postgres.settling import End, give_back, lose, settle_start
from ingest_service.engines.postgres.slots import (
    FENCE,
    STALE,
    Stage,
    concurrent,
    entry_of,
    fenced,
    pace_of,
)

#: Puts a start in the hands of whoever fetches it, in the transaction that it was made in.
Defer = Callable[[Connection, int], None]
#: For how long a slot is kept for a batch that is connecting, after each word of it, in seconds.
CONNECTING = 1.0


class PostgresDispatch:
    """See `Dispatch`; of any number of processes."""

    def __init__(
        self, database: Database, clock: Clock, options: EngineOptions, settle: float, defer: Defer
    ) -> None:
        self._database = database
        self._clock = clock
        self._options = options
        self._settle = settle
        self._defer = defer
        #: When starts were on the wire first, where that is known.
        self._on_wire: dict[int, float] = {}
        #: What was known last of the upstream.
        self._breaker = CircuitBreaker()
        #: Whether the history knows at which interval this process takes slots.
        self._is_recorded = False

    def take(self, ended: Sequence[Ended] = ()) -> Slot | float:
        """Choose and take in one transaction; whoever comes second finds the slot gone."""
        for slot, decision in ended:
            self.settle(slot, decision)
        with self._database.transaction() as tx:
            row = tx.row("lock_pace")
            taken = self._take(tx, self._recorded(tx, row))
            if isinstance(taken, float):
                return self._clock.monotonic() + (taken - float(row.now))
            # In the same transaction: a moment later it may have been given back.
            row = tx.row("start_to_carry", start=taken)
            pieces = _content_of(tx, row)
        slot = self._slot_of(row, pieces)
        logs.event(
            "batch_started",
            ingestion_id=slot.batch.ingestion_id,
            batch_id=slot.batch.batch_id,
            attempt=slot.batch.attempt,
            items=len(slot.batch.items),
        )
        return slot

    def fetch(self, start: int) -> Slot | None:
        """Return the slot of a start that nobody has called for yet; None if it was given back."""
        with self._database.transaction() as tx:
            row = tx.row("start_to_carry", start=start)
            if row is None:
                return None
            pieces = _content_of(tx, row)
        return self._slot_of(row, pieces)

    def confirm(self, slot: Slot) -> bool:
        """Count the slot from here, unless it was given back meanwhile or somebody has stopped.

        True means that the call may be made within `FENCE` seconds of the question.
        """
        for repeated in range(3):
            asked_at = self._clock.monotonic()
            with self._database.transaction() as tx:
                row = tx.row("confirm", start=slot.number, stale=STALE)
                if row is not None and not repeated:
                    count(tx, _counts_of_start(row), moved=False)
            if row is None:
                break
            if self._clock.monotonic() - asked_at < FENCE:
                return True
        self.give_back(slot)
        return False

    def give_back(self, slot: Slot) -> None:
        """Undo the start of a batch that was not sent."""
        with self._database.transaction() as tx:
            tx.row("lock_pace")
            give_back(tx, slot.number)
            tx.run("wake")

    def lose(self, start: int) -> None:
        """Have a start sent again whose worker is gone; one that was not confirmed was not sent."""
        with self._database.transaction() as tx:
            at = tx.row("lock_pace").at
            row = tx.row("start_under_way", start=start)
            if row is None:
                return
            if row.confirmed_at is None:
                give_back(tx, start)
            else:
                # Which items they are does not matter.
                lose(tx, batch_of(row, ()), start, at)
            tx.run("wake")

    def called(self, slot: Slot, ends_at: float | None) -> None:
        """Tell whoever waits for the call that it was made; keep the slot while it connects."""
        ends_in = None if ends_at is None else max(0.0, ends_at - self._clock.monotonic())
        with self._database.hasty() as tx:
            if ends_in is not None and math.isfinite(ends_in):
                tx.run("note_called", start=slot.number, ends_in=ends_in)
            tx.run("slot_called", start=slot.number, connecting=CONNECTING)

    def sent(self, slot: Slot, at: float) -> None:
        """Count the pace from the last request, and judge it by the first one on the wire."""
        ago = self._clock.monotonic() - at
        first = math.isfinite(at) and slot.number not in self._on_wire
        with self._database.hasty() as tx:
            tx.run("slot_sent", start=slot.number, ago=ago)
            if first:
                tx.run("first_on_wire", start=slot.number, ago=ago)
            tx.run("wake")
        if first:
            self._on_wire[slot.number] = at

    def hold(self, until: float) -> None:
        """Leave the upstream alone; only ever extended."""
        with self._database.transaction() as tx:
            row = tx.row("lock_pace")
            until = row.now + (until - self._clock.monotonic())
            if until <= row.held_until:
                return
            tx.run("hold", until=until)
            before = None if math.isinf(row.held_until) else _time(row.held_until)
            add_mark(tx, MarkKind.HOLD, before, _time(until))
        logs.event("upstream_hold", level=logging.WARNING, until=_time(until))

    def settle(self, slot: Slot, decision: Decision) -> None:
        """Record and apply; a second time does nothing."""
        self.end(slot, lambda _: decision)

    def end(self, slot: Slot, decide: Callable[[CircuitBreaker], Decision]) -> None:
        """Settle a batch by what `decide` makes of all that is known of the upstream.

        That takes long for a large batch, so it is done before the gate is locked: with what was
        known last, and once more if another batch has changed that meanwhile.
        """
        breaker = self._breaker
        while (known := self._end(slot, decide, breaker)) != breaker:
            breaker = known
        self._on_wire.pop(slot.number, None)

    def _end(
        self, slot: Slot, decide: Callable[[CircuitBreaker], Decision], breaker: CircuitBreaker
    ) -> CircuitBreaker:
        """Settle a batch if `breaker` is what is known of the upstream; return what is."""
        decision = decide(breaker)
        end = End.of(slot.batch, decision)
        with self._database.transaction() as tx:
            row = tx.row("lock_pace")
            known = CircuitBreaker(row.missed, row.probes)
            if known != breaker:
                return known
            decided_at = row.now - (self._clock.monotonic() - decision.decided_at)
            seconds = max(0.0, decision.ended_at - self._on_wire.get(slot.number, slot.at))
            settle_start(tx, slot, end, at=row.at, decided_at=decided_at, seconds=seconds)
            tx.run("wake")
        self._breaker = decision.breaker
        return known

    # --- The slot transaction ---

    def _take(self, tx: Transaction, row: Any) -> int | float:
        """Return the start that was made, or the instant at which to look again."""
        if row.stage == Stage.TAKEN:
            if row.now < row.stage_at + STALE:
                return float(row.stage_at + STALE)
            give_back(tx, row.start)
            return float(row.now)
        if tx.run("line_up", at=row.now):
            count(tx, {})
        due = tx.row("next_retry").due
        retry_at = math.inf if due is None else float(due)
        pace = pace_of(row, self._options, self._settle)
        connecting = row.stage in (Stage.CONFIRMED, Stage.CALLED) and row.connecting_until > row.now
        if connecting and pace.interval:
            # The interval counts from when that is on the wire.
            return min(float(row.connecting_until), retry_at)
        under_way = tx.row("under_way").number
        if under_way >= concurrent(row, self._options):
            return retry_at
        entries = [entry_of(head) for head in tx.rows("heads", most=1)]
        if not entries:
            return retry_at
        depth = tx.row("depth")
        # What is only in line because of a retry has not filled the queue.
        opens_at = fenced(pace, row).opens_at(depth.filled_at if any(depth.ready) else -math.inf)
        if row.now < opens_at:
            return min(opens_at, retry_at)
        chosen = entries[choose(entries, self._options.rule, row.slots, row.now)]
        start = self._start(tx, row, chosen.sequence)
        self._defer(tx.connection, start)
        return start

    def _recorded(self, tx: Transaction, row: Any) -> Any:
        """Record that the server was restarted, or that this process has another interval.

        After a restart or a promotion nobody knows how much of the interval is over.
        """
        interval = pace_of(row, self._options, self._settle).interval
        restarted = row.server != row.served_by
        if restarted:
            at = row.last_at if row.server is None else row.now
            tx.run("note_server", server=row.served_by, at=at)
        if restarted or not (self._is_recorded or row.recorded == interval):
            tx.run("note_interval", interval=interval)
            unfinished = tx.row("depth").unfinished
            after = {"unfinished": unfinished, "server": row.served_by, INTERVAL_KEY: interval}
            add_mark(tx, MarkKind.RESTART, {"server": row.server}, after)
            # The minute begins with what is left of the one before.
            count(tx, {})
            row = tx.row("lock_pace")
        self._is_recorded = True
        return row

    def _start(self, tx: Transaction, row: Any, sequence: int) -> int:
        ingestion = tx.row("lock_ingestion", sequence=sequence)
        retry = tx.row("take_retry", sequence=sequence) if ingestion.lined else None
        index = retry.batch if retry else ingestion.next_batch
        first = index * ingestion.batch_size
        size = min(ingestion.batch_size, ingestion.total - first)
        offsets = unpack_offsets(retry.offsets if retry else None, size)
        states = bytearray(size)
        if retry is not None:
            states[:] = tx.row("states_of_batch", sequence=sequence, batch=index).states
        unsent = sum(states[offset] == ItemState.QUEUED for offset in offsets)
        for offset in offsets:
            states[offset] = ItemState.IN_FLIGHT
        start_no = retry.start_no if retry else 1
        pace = pace_of(row, self._options, self._settle)
        tx.run(
            "take_from_ingestion",
            sequence=sequence,
            fresh=int(retry is None),
            again=int(retry is not None),
            unsent=unsent,
            retrying=len(offsets) - unsent,
            items=len(offsets),
            at=row.at,
        )
        tx.run(
            "start_batch", sequence=sequence, batch=index, states=bytes(states), start_no=start_no
        )
        start = tx.row(
            "add_start",
            sequence=sequence,
            batch=index,
            start_no=start_no,
            attempt=retry.attempt if retry else 1,
            offsets=pack_offsets(offsets),
            items=len(offsets),
            at=row.at,
            gap=pace.gap(row.now),
            required=pace.interval,
            again=retry.again if retry else None,
            due=retry.due if retry else None,
        ).start
        tx.run("take_slot", start=start, now_=row.now)
        count(tx, {})
        return int(start)

    def _slot_of(self, row: Any, pieces: Sequence[Any]) -> Slot:
        batch = batch_of(row, pieces)
        fills = self._options.max_concurrent == 1
        return Slot(row.start, batch, self._clock.monotonic(), row.required, fills)


def _counts_of_start(row: Any) -> rollup.Counts:
    waited = (row.at - row.created_at).total_seconds() if row.start_no == 1 else None
    return rollup.started(Priority(row.priority), row.items, row.gap, waited)


def _content_of(tx: Transaction, row: Any) -> Sequence[Any]:
    span = _span_of(row)
    return tx.rows("content", sequence=row.sequence, start=span.start, end=span.stop)


def _span_of(row: Any) -> range:
    first = row.batch * row.batch_size
    return range(first, min(first + row.batch_size, row.total))


def batch_of(row: Any, pieces: Sequence[Any]) -> Batch:
    """Return the batch of a start, with its items if they are in `pieces` of the content."""
    span = _span_of(row)
    offsets = unpack_offsets(row.offsets, len(span))
    (batch_id,) = batch_ids(str(row.id), range(row.batch, row.batch + 1))
    return Batch(
        ingestion_id=str(row.id),
        sequence=row.sequence,
        batch_id=batch_id,
        kind=Kind(row.kind),
        index=row.batch,
        start_no=row.start_no,
        attempt=row.attempt,
        offsets=offsets,
        items=_items(Kind(row.kind), pieces, [span.start + offset for offset in offsets]),
    )


def _items(kind: Kind, pieces: Sequence[Any], positions: Sequence[int]) -> list[Any]:
    if not pieces:
        return []
    items = join_items(kind, [Chunk(*piece) for piece in pieces])
    before = pieces[0].first_item
    return [items[position - before] for position in positions]


def _time(instant: float) -> str:
    return datetime.fromtimestamp(instant, UTC).isoformat()
