"""What becomes of a start: its end, its return unsent, or its loss. `pace` is locked before."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from ingest_service import logs
from ingest_service.domain import rollup
from ingest_service.domain.model import (
    Batch,
    Counts,
    ItemState,
    Outcome,
    Priority,
    Resend,
    states_of,
)
from ingest_service.domain.settlement import Decision
from ingest_service.engines import Slot
from ingest_service.engines.offsets import pack_offsets, unpack_offsets
from ingest_service.engines.options import MAX_CRASHES
from ingest_service.engines.outcomes import final_outcomes
from ingest_service.engines.postgres.database import Transaction
from ingest_service.engines.postgres.rollups import count


def counts_of(row: Any) -> Counts:
    """Return the counts of an ingestion's row."""
    return Counts(
        row.total,
        row.unsent,
        row.in_flight,
        row.succeeded,
        row.failed,
        row.given_up,
        row.retrying,
    )


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What is written of the outcomes of a batch: what takes long is done before `pace` is locked.

    Whether the ingestion was cancelled meanwhile, and in which class it is, is only known then.
    """

    #: One an item that was sent, in their order.
    states: bytes
    #: Of which items the outcome is final, as they are stored; and these as text.
    offsets: bytes | None
    text: bytes | None
    #: What the history counts, by class and by whether it was cancelled.
    counts: Mapping[tuple[Priority, bool], rollup.Counts]

    @classmethod
    def of(cls, batch: Batch, outcomes: Sequence[Outcome]) -> Self:
        """Put `outcomes` as they are written."""
        offsets, text = final_outcomes(batch, outcomes)
        return cls(
            states=states_of(outcomes),
            offsets=pack_offsets(list(offsets)),
            text=text if offsets else None,
            counts={
                (priority, cancelled): rollup.settled(priority, outcomes, cancelled=cancelled)
                for priority in Priority
                for cancelled in (False, True)
            },
        )

    def counts_for(self, ingestion: Any) -> rollup.Counts:
        """Return what the history counts."""
        return self.counts[Priority(ingestion.priority), ingestion.cancelled]


@dataclass(frozen=True, slots=True)
class End:
    """How a batch has ended, ready to be written."""

    decision: Decision
    outcomes: Outcomes

    @classmethod
    def of(cls, batch: Batch, decision: Decision) -> Self:
        """Prepare what was decided about `batch`."""
        return cls(decision, Outcomes.of(batch, decision.outcomes))


def settle_start(
    tx: Transaction, slot: Slot, end: End, *, at: datetime, decided_at: float, seconds: float
) -> None:
    """Record how a batch has ended, and what follows from it; a late end changes nothing.

    `seconds` is how long the upstream had it.
    """
    batch, decision, outcomes = slot.batch, end.decision, end.outcomes
    start = tx.row(
        "end_start",
        start=slot.number,
        at=at,
        duration=max(0.0, decision.ended_at - slot.at),
        succeeded=outcomes.states.count(ItemState.SUCCEEDED),
        failed=outcomes.states.count(ItemState.FAILED),
        retried=outcomes.states.count(ItemState.RETRYING),
    )
    if start is None:
        return
    probe_at = -math.inf if decision.probe_wait is None else decided_at + decision.probe_wait
    breaker = decision.breaker
    tx.run(
        "set_breaker",
        missed=breaker.missed,
        probes=breaker.probes,
        probe_at=probe_at,
        start=slot.number,
    )
    ingestion = tx.row("lock_ingestion", sequence=batch.sequence)
    resend = None if ingestion.cancelled else decision.resend
    _record_outcomes(tx, batch, outcomes, at)
    _apply(tx, batch, outcomes.states, ingestion, at, lined=0)
    if resend is not None:
        _send_again(tx, batch.sequence, resend, decided_at + decision.wait)
    count(tx, {**outcomes.counts_for(ingestion), **rollup.UPSTREAM.of(seconds)})
    _log_settled(batch, outcomes.states)


def give_back(tx: Transaction, start: int) -> None:
    """Undo a start that was not sent; what was cancelled meanwhile is cancelled."""
    tx.run("give_back_slot", start=start)
    row = tx.row("forget_start", start=start)
    if row is None:
        return
    ingestion = tx.row("lock_ingestion", sequence=row.sequence)
    known = tx.row("states_of_batch", sequence=row.sequence, batch=row.batch)
    states = bytearray(known.states)
    offsets = unpack_offsets(row.offsets, len(states))
    never_sent = row.again is None or row.start_no == 1
    state = ItemState.QUEUED if never_sent else ItemState.RETRYING
    if ingestion.cancelled:
        state = ItemState.CANCELLED
    else:
        tx.run(
            "back_to_line",
            again=row.again,
            sequence=row.sequence,
            batch=row.batch,
            start_no=row.start_no,
            attempt=row.attempt,
            offsets=row.offsets,
            due=row.due,
        )
    for offset in offsets:
        states[offset] = state
    tx.run(
        "set_states",
        sequence=row.sequence,
        batch=row.batch,
        states=bytes(states),
        crashes=known.crashes,
    )
    after = tx.row(
        "give_back_to_ingestion",
        sequence=row.sequence,
        items=row.items,
        lined=int(not ingestion.cancelled),
        unsent=row.items if state is ItemState.QUEUED else 0,
        retrying=row.items if state is ItemState.RETRYING else 0,
        given_up=row.items if state is ItemState.CANCELLED else 0,
    )
    count(tx, {})
    finish_if_final(tx, after, None)


def lose(tx: Transaction, batch: Batch, start: int, at: datetime) -> None:
    """Have a batch sent again whose start has no end; fail it if that happens too often."""
    row = tx.row(
        "end_start",
        start=start,
        at=at,
        duration=None,
        succeeded=0,
        failed=0,
        retried=len(batch.offsets),
    )
    if row is None:
        return
    tx.run("slot_lost", start=start)
    ingestion = tx.row("lock_ingestion", sequence=batch.sequence)
    known = tx.row("states_of_batch", sequence=batch.sequence, batch=batch.index)
    if known.crashes + 1 >= MAX_CRASHES:
        crashed = [Outcome(succeeded=False, error="crashed")] * len(batch.offsets)
        outcomes = Outcomes.of(batch, crashed)
        _record_outcomes(tx, batch, outcomes, at)
        _apply(tx, batch, outcomes.states, ingestion, at, lined=0)
        count(tx, outcomes.counts_for(ingestion))
        return
    # Of a cancelled ingestion too: it was under way.
    states = bytes([ItemState.RETRYING]) * len(batch.offsets)
    row = replace_cancelled(ingestion)
    _apply(tx, batch, states, row, at, lined=1, crashes=known.crashes + 1)
    resend = batch.pick(batch.offsets, batch.attempt)
    _send_again(tx, batch.sequence, resend, -math.inf, lined=True)
    count(tx, {})
    logs.event("batch_lost", level=logging.WARNING, batch_id=batch.batch_id)


def finish_if_final(tx: Transaction, ingestion: Any, at: datetime | None) -> None:
    """Note the end of an ingestion if all its items have one."""
    counts = counts_of(ingestion)
    if not counts.status.final or ingestion.finished_at is not None:
        return
    tx.run("finish", sequence=ingestion.sequence, at=at, status=counts.status.value)
    logs.event(
        "finished", ingestion_id=str(ingestion.id), outcome=counts.outcome, level=logging.INFO
    )


def replace_cancelled(ingestion: Any) -> Any:
    """Return the row as that of an ingestion that is not cancelled."""
    return ingestion._replace(cancelled=False)


def _record_outcomes(tx: Transaction, batch: Batch, outcomes: Outcomes, at: datetime) -> None:
    if outcomes.text is not None:
        tx.run(
            "add_outcome",
            sequence=batch.sequence,
            batch=batch.index,
            start_no=batch.start_no,
            at=at,
            offsets=outcomes.offsets,
            outcomes=outcomes.text,
        )


def _apply(
    tx: Transaction,
    batch: Batch,
    became: bytes,
    ingestion: Any,
    at: datetime,
    *,
    lined: int,
    crashes: int = 0,
) -> None:
    """Show what became of the items of a batch."""
    if ingestion.cancelled:
        became = became.replace(bytes([ItemState.RETRYING]), bytes([ItemState.CANCELLED]))
    known = tx.row("states_of_batch", sequence=batch.sequence, batch=batch.index)
    states = bytearray(known.states)
    for offset, state in zip(batch.offsets, became, strict=True):
        states[offset] = state
    tx.run(
        "set_states",
        sequence=batch.sequence,
        batch=batch.index,
        states=bytes(states),
        crashes=crashes,
    )
    after = tx.row(
        "count_outcomes",
        sequence=batch.sequence,
        items=len(became),
        succeeded=became.count(ItemState.SUCCEEDED),
        failed=became.count(ItemState.FAILED),
        given_up=became.count(ItemState.CANCELLED),
        retrying=became.count(ItemState.RETRYING),
        lined=lined,
    )
    finish_if_final(tx, after, at)


def _send_again(
    tx: Transaction, sequence: int, resend: Resend, due: float, *, lined: bool = False
) -> None:
    tx.run(
        "send_again",
        sequence=sequence,
        batch=resend.index,
        start_no=resend.start_no,
        attempt=resend.attempt,
        offsets=pack_offsets(resend.offsets),
        due=due,
        lined=lined,
    )


def _log_settled(batch: Batch, states: bytes) -> None:
    logs.event(
        "batch_settled",
        ingestion_id=batch.ingestion_id,
        batch_id=batch.batch_id,
        succeeded=states.count(ItemState.SUCCEEDED),
        failed=states.count(ItemState.FAILED),
        retrying=states.count(ItemState.RETRYING),
    )
