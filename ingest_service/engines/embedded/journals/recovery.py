"""What a journal knows when the service starts: everything unfinished, brought to where it was."""

from collections.abc import Iterable
from datetime import datetime
from itertools import groupby
from typing import cast

import apsw

from ingest_service.domain.model import Batch, Ingestion, ItemState, Resend
from ingest_service.engines.embedded.journal import Instant, Recovered
from ingest_service.engines.embedded.journals.database import SQL
from ingest_service.engines.embedded.journals.rows import Row, to_datetime, to_ingestion, unpack

#: A batch that was started so often and never ended is not started again.
MAX_CRASHES = 3


def recover(db: apsw.Connection) -> Recovered:
    starts = groupby(db.execute(SQL["starts_of_unfinished"]), key=lambda row: row[0])
    by_sequence = {sequence: list(rows) for sequence, rows in starts}
    unfinished: list[Ingestion] = []
    retries: list[tuple[datetime, str, Resend]] = []
    hopeless: list[Batch] = []
    for *head, cancelled_at in db.execute(SQL["unfinished"]):
        ingestion = to_ingestion(head, bytearray())
        rows = by_sequence.get(ingestion.sequence, [])
        for index, starts_of_batch in groupby(rows, key=lambda row: int(row[1])):
            _replay(ingestion, index, list(starts_of_batch), retries, hopeless)
        if cancelled_at is not None:
            _give_up(ingestion, retries, to_datetime(cast(int, cancelled_at)))
        if rows or cancelled_at is not None:
            ingestion.recount()
        unfinished.append(ingestion)
    (highest,) = db.execute(SQL["last_sequence"]).fetchall()
    slots = [
        (Instant(to_datetime(at), monotonic, boot_id), taken)
        for at, monotonic, boot_id, taken in db.execute(SQL["last_slot"])
    ]
    return Recovered(
        unfinished=unfinished,
        retries=retries,
        hopeless=hopeless,
        last_sequence=cast(int, highest[0] or 0),
        last_slot=slots[0][0] if slots else None,
        slots=slots[0][1] if slots else 0,
        remembered=dict(cast(Iterable[tuple[str, str]], db.execute(SQL["remembered"]))),
    )


def _replay(
    ingestion: Ingestion,
    index: int,
    starts: list[Row],
    retries: list[tuple[datetime, str, Resend]],
    hopeless: list[Batch],
) -> None:
    """Bring a batch to where it was, by all its starts; sort in what is left of it."""
    span = ingestion.span(index)
    crashes = 0
    for *_, packed, settled_at, item_states, _, _ in starts:
        offsets = unpack(packed, len(span))
        crashes = crashes + 1 if settled_at is None else 0
        states = item_states or bytes([ItemState.RETRYING]) * len(offsets)
        for place, state in zip(offsets, states, strict=True):
            ingestion.item_states[span.start + place] = state
    ingestion.next_batch = index + 1
    _, _, last_round, attempt, *_, item_states, again_at, again_as = starts[-1]
    if crashes >= MAX_CRASHES:
        hopeless.append(ingestion.batch(Resend(index, last_round, attempt, offsets)))
    elif crashes:
        ingestion.again.append(Resend(index, last_round + 1, attempt, offsets))
    elif again_at is not None:
        left = [
            place
            for place, state in zip(offsets, item_states, strict=True)
            if state == ItemState.RETRYING
        ]
        again = Resend(index, last_round + 1, again_as, left)
        retries.append((to_datetime(again_at), ingestion.ingestion_id, again))


def _give_up(
    ingestion: Ingestion, retries: list[tuple[datetime, str, Resend]], at: datetime
) -> None:
    """Cancel what an ingestion was waiting with; what was under way is sent again."""
    under_way = list(ingestion.again)
    retries[:] = [each for each in retries if each[1] != ingestion.ingestion_id]
    ingestion.cancel(at)
    ingestion.again.extend(under_way)
    for again in under_way:
        start = ingestion.span(again.index).start
        for place in again.offsets:
            ingestion.item_states[start + place] = ItemState.RETRYING
