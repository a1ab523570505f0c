"""A journal in a database, read as a whole: what it is moved by."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import IO, Any

import psycopg
from psycopg.rows import namedtuple_row, tuple_row

from ingest_service.domain.history import MinuteRow
from ingest_service.domain.items import Kind
from ingest_service.domain.model import ItemState
from ingest_service.domain.rollup import add
from ingest_service.engines.chunks import Chunk
from ingest_service.engines.offsets import unpack_offsets
from ingest_service.engines.postgres.database import Connection
from ingest_service.engines.postgres.migrations import check_version, connected
from ingest_service.engines.postgres.rollups import depth_of
from ingest_service.engines.postgres.statements import SQL
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
from ingest_service.errors import JournalUnusable

#: Rows that are fetched at a time: of most, and of those that can be long.
_ROWS, _LONG_ROWS = 2_000, 100


def export(conninfo: str, stream: IO[bytes]) -> Summary:
    """Write what the database holds to `stream`, as it is at one moment, also while it is used."""
    try:
        with connected(conninfo) as connection:
            check_version(connection)
            connection.rollback()
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            return write(_records(connection), stream)
    except psycopg.Error as error:
        raise JournalUnusable(f"The database cannot be read: {first_line(error)}") from None


def first_line(error: psycopg.Error) -> str:
    """Return what a server has said, for people."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class _Merged:
    """Rows of several statements, all in the order of a number that they begin with."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._groups = groupby(rows, key=itemgetter(0))
        self._next: tuple[int | None, Iterator[Any]] = next(self._groups, (None, iter(())))

    def of(self, number: int) -> Iterator[Any]:
        """Yield those that begin with `number`, once; numbers only grow."""
        if self._next[0] == number:
            yield from self._next[1]
            self._next = next(self._groups, (None, iter(())))


def _rows(connection: Connection, statement: str, *, at_a_time: int = _ROWS) -> Iterator[Any]:
    named = connection.cursor(name=statement, row_factory=namedtuple_row)
    with named as cursor:
        cursor.itersize = at_a_time
        cursor.execute(SQL[statement], binary=True)
        yield from cursor


def _records(connection: Connection) -> Iterator[Record]:
    content = _Merged(_rows(connection, "exported_content", at_a_time=_LONG_ROWS))
    starts = _Merged(_rows(connection, "exported_starts", at_a_time=_LONG_ROWS))
    retries = _Merged(_rows(connection, "exported_retries"))
    for row in _tuples(connection, "exported_ingestions"):
        ingestion = ingestion_of(row)
        yield ingestion
        chunks = (Chunk(*columns) for _, *columns in content.of(ingestion.sequence))
        yield from items_of(Kind(ingestion.kind), chunks)
        yield from _batches(ingestion, starts, retries)
    for row in _tuples(connection, "exported_keys"):
        yield KeyRecord(*row)
    for row in _tuples(connection, "exported_marks"):
        yield MarkRecord(*row)
    yield from _history(connection)
    (queue,) = _rows(connection, "exported_queue")
    yield QueueRecord(
        slots=queue.slots,
        last_slot_at=_micros(queue.last_at),
        paused=queue.paused,
        interval=queue.interval_,
        configured_interval=queue.configured,
        held_until=_micros(queue.held_until),
    )


def _tuples(connection: Connection, statement: str) -> Iterator[tuple[Any, ...]]:
    with connection.cursor(name=statement, row_factory=tuple_row) as cursor:
        cursor.itersize = _ROWS
        cursor.execute(SQL[statement], binary=True)
        yield from cursor


def _batches(
    ingestion: IngestionRecord, starts: _Merged, retries: _Merged
) -> Iterator[BatchRecord]:
    of_batch = groupby(starts.of(ingestion.sequence), key=attrgetter("batch"))
    waiting = {row.batch: row for row in retries.of(ingestion.sequence)}
    for batch, rows in of_batch:
        # What was never sent, and stands before what was.
        for earlier in sorted(one for one in waiting if one < batch):
            yield BatchRecord(earlier, [], _retry(ingestion, waiting.pop(earlier)), [])
        yield _batch(ingestion, list(rows), waiting.pop(batch, None))


def _batch(ingestion: IngestionRecord, rows: Sequence[Any], again: Any) -> BatchRecord:
    last, size = rows[-1], ingestion.size(rows[0].batch)
    is_lost = last.ended_at is None
    starts = [start_of(row, size) for row in rows]
    if is_lost and again is None and not last.is_under_way:
        # It was cancelled, and is not sent again.
        starts[-1] = start_of(last._replace(ended_at=last.at), size)
    retry = None if again is None or is_lost else _retry(ingestion, again)
    cancelled = [at for at, state in enumerate(last.states or b"") if state == ItemState.CANCELLED]
    return BatchRecord(rows[0].batch, starts, retry, cancelled)


def _retry(ingestion: IngestionRecord, row: Any) -> RetryRecord:
    size = ingestion.size(row.batch)
    offsets = shortest(unpack_offsets(row.offsets, size), size)
    return RetryRecord(row.start_no, row.attempt, offsets, _micros(row.due))


def _history(connection: Connection) -> Iterator[Record]:
    totals: dict[str, int] = {}
    for row in _rows(connection, "total_counts"):
        add(totals, row.counts)

    def minutes() -> Iterator[MinuteRow]:
        of_minutes = groupby(_rows(connection, "exported_minutes"), key=attrgetter("minute"))
        for minute, rows in of_minutes:
            counts: dict[str, int] = {}
            depth = None
            for row in rows:
                add(counts, row.counts)
                depth = depth if row.batches is None else depth_of(row)
            yield MinuteRow(minute, counts, depth)

    yield from minute_records(minutes())
    yield TotalsRecord(without_zeros(totals))


def _micros(instant: float | None) -> int | None:
    """Return an instant in microseconds, None for one that is always over."""
    return None if instant in (None, float("-inf")) else round((instant or 0.0) * 1e6)
