"""What a journal knows when the service starts: everything unfinished, brought to where it was."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import cast

import apsw

from ingest_service.domain.ingestion import Ingestion
from ingest_service.domain.model import Batch, ItemState, Resend, some_or_all
from ingest_service.engines import OperatorState
from ingest_service.engines.chunks import Chunk, join_items
from ingest_service.engines.embedded.journal import Instant, Recovered
from ingest_service.engines.embedded.journals.rows import (
    KINDS,
    Row,
    operator_from_json,
    to_submission,
)
from ingest_service.engines.embedded.journals.statements import SQL
from ingest_service.engines.micros import to_datetime, to_optional_datetime
from ingest_service.engines.offsets import unpack_offsets
from ingest_service.engines.options import MAX_CRASHES


def recover(db: apsw.Connection) -> Recovered:
    """Read everything unfinished."""
    rows = groupby(db.execute(SQL["starts_of_unfinished"]), key=itemgetter(0))
    starts = {sequence: list(of_one) for sequence, of_one in rows}
    unfinished, begun = [], []
    for ingestion, cancelled_at in _unfinished(db):
        unfinished.append(ingestion)
        of_one = starts.get(ingestion.sequence, [])
        if of_one or cancelled_at is not None:
            begun.append(_replay(ingestion, of_one, cancelled_at))
    ((last_sequence,),) = db.execute(SQL["last_sequence"]).fetchall()
    slot, slots = last_slot(db)
    return Recovered(
        unfinished=unfinished,
        retries=[
            (at, one.ingestion.ingestion_id, resend) for one in begun for at, resend in one.retries
        ],
        hopeless=[batch for one in begun for batch in one.hopeless],
        last_sequence=cast(int, last_sequence or 0),
        last_slot=slot,
        unsettled=any(one.lost or one.hopeless for one in begun),
        slots=slots,
        operator=operator(db),
    )


@dataclass(slots=True)
class _Progress:
    """How far an ingestion was, apart from the states of its items."""

    ingestion: Ingestion
    #: What was under way, and is sent again.
    lost: list[Resend] = field(default_factory=list)
    #: What waits for its next attempt, and when it is due.
    retries: list[tuple[datetime, Resend]] = field(default_factory=list)
    hopeless: list[Batch] = field(default_factory=list)
    last_end: datetime | None = None


def _unfinished(db: apsw.Connection) -> Iterator[tuple[Ingestion, int | None]]:
    """Yield what is unfinished as it was accepted, and when it was cancelled."""
    for _, group in groupby(db.execute(SQL["unfinished"]), key=itemgetter(0)):
        rows = list(group)
        head: Row = rows[0]
        items = join_items(KINDS[head[2]], [Chunk(*row[10:]) for row in rows])
        ingestion = Ingestion.of(to_submission(head, items))
        ingestion.started_at = to_optional_datetime(head[8])
        yield ingestion, head[9]


def _replay(ingestion: Ingestion, starts: Sequence[Row], cancelled_at: int | None) -> _Progress:
    """Bring an ingestion to where it was, by all its starts."""
    progress = _Progress(ingestion)
    for index, of_batch in groupby(starts, key=itemgetter(1)):
        _replay_batch(progress, index, list(of_batch))
    if cancelled_at is not None:
        progress.last_end = to_datetime(cancelled_at)
        progress.retries.clear()
        ingestion.cancel(progress.last_end)
    _send_lost_again(progress)
    ingestion.recount()
    # If all is final, its end was not recorded; whoever goes on with it does that first.
    final = ingestion.counts.status.final
    ingestion.finished_at = progress.last_end if final else None
    return progress


def _replay_batch(progress: _Progress, index: int, starts: Sequence[Row]) -> None:
    """Bring a batch to where it was, by all its starts; sort in what is left of it."""
    ingestion = progress.ingestion
    span = ingestion.submission.span(index)
    crashes = 0
    for *_, packed, settled_at, item_states, _, _ in starts:
        offsets = unpack_offsets(packed, len(span))
        crashes = crashes + 1 if settled_at is None else 0
        states = item_states or bytes([ItemState.IN_FLIGHT]) * len(offsets)
        for offset, state in zip(offsets, states, strict=True):
            ingestion.item_states[span.start + offset] = state
        if settled_at is not None:
            ended_at = to_datetime(settled_at)
            progress.last_end = max(progress.last_end or ended_at, ended_at)
    ingestion.next_batch = max(ingestion.next_batch, index + 1)
    _, _, start_no, attempt, *_, item_states, resend_at, resend_as = starts[-1]
    if crashes >= MAX_CRASHES:
        progress.hopeless.append(ingestion.batch(Resend(index, start_no, attempt, offsets)))
    elif crashes:
        progress.lost.append(Resend(index, start_no + 1, attempt, offsets))
    elif resend_at is not None:
        pairs = zip(offsets, item_states, strict=True)
        left = [offset for offset, state in pairs if state == ItemState.RETRYING]
        resend = Resend(index, start_no + 1, resend_as, some_or_all(left, len(span)))
        progress.retries.append((to_datetime(resend_at), resend))


def _send_lost_again(progress: _Progress) -> None:
    """Have everything sent again that was under way, of a cancelled ingestion as well."""
    ingestion = progress.ingestion
    if progress.lost:
        ingestion.send_again(progress.lost)
    unended: list[Resend | Batch] = [*progress.lost, *progress.hopeless]
    for start_of in unended:
        start = ingestion.submission.span(start_of.index).start
        for offset in start_of.offsets:
            ingestion.item_states[start + offset] = ItemState.RETRYING


def last_slot(db: apsw.Connection) -> tuple[Instant | None, int]:
    """Return when the last slot was taken, and how many were."""
    rows: list[Row] = db.execute(SQL["last_slot"]).fetchall()
    for at, monotonic, boot_id, slots in rows:
        return Instant(to_datetime(at), monotonic, boot_id), slots
    return None, 0


def operator(db: apsw.Connection) -> OperatorState | None:
    """Return what the operator wants, None if nothing was ever changed."""
    for (text,) in db.execute(SQL["operator"]).fetchall():
        return operator_from_json(cast(str, text))
    return None
