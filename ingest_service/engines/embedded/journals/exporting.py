"""A journal in a file, read as a whole: what it is moved by."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO, NamedTuple, cast

import apsw

from ingest_service import json_text
from ingest_service.domain.history import MinuteRow
from ingest_service.domain.items import Kind
from ingest_service.domain.model import ItemState
from ingest_service.domain.rollup import add
from ingest_service.engines import OperatorState
from ingest_service.engines.chunks import Chunk
from ingest_service.engines.embedded.journals.connections import transaction
from ingest_service.engines.embedded.journals.files import use_existing
from ingest_service.engines.embedded.journals.formats import check_format
from ingest_service.engines.embedded.journals.recovery import last_slot, operator
from ingest_service.engines.embedded.journals.statements import TRANSFER
from ingest_service.engines.micros import to_micros
from ingest_service.engines.offsets import unpack_offsets
from ingest_service.engines.transfer.lines import Summary, write
from ingest_service.engines.transfer.minutes import minute_records, without_zeros
from ingest_service.engines.transfer.records import (
    BatchRecord,
    IngestionRecord,
    KeyRecord,
    MarkRecord,
    QueueRecord,
    Record,
    RetryRecord,
    TotalsRecord,
)
from ingest_service.engines.transfer.rows import ingestion_of, items_of, shortest, start_of

#: What `cancel` gives up.
_GIVEN_UP = (ItemState.QUEUED, ItemState.RETRYING)


class _Row(NamedTuple):
    """A start, or the decision to send something again, which has no attempt."""

    batch: int
    start_no: int
    attempt: int
    at: int
    offsets: bytes | None
    ended_at: int | None
    item_states: bytes | None
    again_at: int | None
    again_as: int | None
    gap: float | None
    wire_gap: float | None
    required: float | None
    final: bytes | None
    outcomes: bytes | None


def export(path: str, stream: IO[bytes]) -> Summary:
    """Write the journal at `path` to `stream`, as it is at one moment, also while it is in use."""

    def read(db: apsw.Connection) -> Summary:
        check_format(db, Path(path))
        with transaction(db, "BEGIN"):
            return write(_records(db), stream)

    return use_existing(path, read)


def _records(db: apsw.Connection) -> Iterator[Record]:
    for row in db.execute(TRANSFER["ingestions"]):
        ingestion = ingestion_of(row)
        yield ingestion
        chunks = db.execute(TRANSFER["content"], {"sequence": ingestion.sequence})
        yield from items_of(Kind(ingestion.kind), (Chunk(*chunk) for chunk in chunks))
        yield from _batches(db, ingestion)
    for owner, key, digest, ingestion_id, at in db.execute(TRANSFER["keys"]):
        yield KeyRecord(owner, key, cast(bytes, digest).hex(), ingestion_id, at)
    for at, kind, before, after, *who in db.execute(TRANSFER["marks"]):
        yield MarkRecord(at, kind, json_text.loads(before), json_text.loads(after), *who)
    yield from _history(db)
    yield _queue(db)


def _batches(db: apsw.Connection, ingestion: IngestionRecord) -> Iterator[BatchRecord]:
    states = _final_states(db, ingestion)
    rows = map(_Row._make, db.execute(TRANSFER["starts"], {"sequence": ingestion.sequence}))
    for batch, of_batch in groupby(rows, key=itemgetter(0)):
        first = batch * ingestion.batch_size
        size = ingestion.size(batch)
        yield _batch(ingestion, size, list(of_batch), states[first : first + size])


def _final_states(db: apsw.Connection, ingestion: IngestionRecord) -> bytes:
    """Return the states of all items, if they tell more than the outcomes do."""
    if not ingestion.counts or not ingestion.counts[2]:
        return b""
    rows = db.execute(TRANSFER["states"], {"sequence": ingestion.sequence})
    return b"".join([Chunk(*row).unpacked() for row in rows])


def _batch(
    ingestion: IngestionRecord, size: int, rows: Sequence[_Row], final_states: bytes
) -> BatchRecord:
    starts = [start_of(row, size) for row in rows if row.attempt]
    last, retry, states = rows[-1], None, final_states
    if last.ended_at is None:
        if ingestion.finished_at is not None:
            # It was cancelled, and is not sent again.
            starts[-1] = start_of(last._replace(ended_at=last.at), size)
    elif ingestion.finished_at is None:
        if ingestion.cancelled:
            states = _given_up(_replayed(rows, size))
        elif last.again_at is not None:
            retry = _retry(last, size)
    cancelled = [at for at, state in enumerate(states) if state == ItemState.CANCELLED]
    return BatchRecord(rows[0].batch, starts, retry, cancelled)


def _retry(row: _Row, size: int) -> RetryRecord:
    sent = unpack_offsets(row.offsets, size)
    pairs = zip(sent, row.item_states or b"", strict=True)
    left = [offset for offset, state in pairs if state == ItemState.RETRYING]
    return RetryRecord(
        row.start_no + 1, cast(int, row.again_as), shortest(left, size), row.again_at or None
    )


def _replayed(rows: Iterable[_Row], size: int) -> bytearray:
    states = bytearray(size)
    for row in rows:
        sent = unpack_offsets(row.offsets, size)
        after = row.item_states or bytes([ItemState.IN_FLIGHT]) * len(sent)
        for offset, state in zip(sent, after, strict=True):
            states[offset] = state
    return states


def _given_up(states: bytearray) -> bytes:
    return bytes(ItemState.CANCELLED if state in _GIVEN_UP else state for state in states)


def _history(db: apsw.Connection) -> Iterator[Record]:
    totals: dict[str, int] = {}
    for (text,) in db.execute(TRANSFER["forgotten"]):
        add(totals, json_text.loads(cast(bytes, text)))

    def rows() -> Iterator[MinuteRow]:
        for minute, counts, depth in db.execute(TRANSFER["minutes"]):
            of_minute = json_text.loads(cast(bytes, counts))
            add(totals, of_minute)
            waited = None if depth is None else json_text.loads(cast(bytes, depth))
            yield MinuteRow(cast(int, minute), of_minute, waited)

    yield from minute_records(rows())
    yield TotalsRecord(without_zeros(totals))


def _queue(db: apsw.Connection) -> QueueRecord:
    slot, slots = last_slot(db)
    state = operator(db) or OperatorState()
    hold = state.hold
    return QueueRecord(
        slots=slots,
        last_slot_at=slot and to_micros(slot.at),
        paused=state.paused,
        interval=state.interval,
        configured_interval=state.configured_interval,
        held_until=None if hold is None else to_micros(hold.at),
    )
