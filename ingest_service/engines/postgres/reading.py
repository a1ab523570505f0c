"""Telling about it: every answer is of one moment, read in one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from ingest_service.domain.ingestion import IngestionSnapshot
from ingest_service.domain.items import Kind
from ingest_service.domain.model import ItemState, Priority, shown_as
from ingest_service.domain.snapshot import QueueSnapshot
from ingest_service.engines import Draft, ListQuery, Result
from ingest_service.engines.chunks import Chunk, keys_of
from ingest_service.engines.offsets import find_states, unpack_offsets
from ingest_service.engines.options import EngineOptions
from ingest_service.engines.outcomes import decode_outcomes
from ingest_service.engines.postgres.database import Database, Transaction, checked_id
from ingest_service.engines.postgres.pictures import Pictures
from ingest_service.engines.postgres.settling import counts_of
from ingest_service.errors import IngestionNotFound

#: How many batches are looked at at a time for results.
_CHUNK = 3_000


class PostgresReading:
    """See `Reading`."""

    def __init__(self, database: Database, options: EngineOptions, pictures: Pictures) -> None:
        self._database = database
        self._options = options
        self._pictures = pictures

    def find(self, ingestion_id: str, batches: range) -> IngestionSnapshot:
        """Read the row, and of its items no more than asked for."""
        with self._database.reading() as tx:
            row = self._row(tx, ingestion_id)
            span = _span(batches, row)
            states = _states(tx, row, batches, span) if span else b""
            pieces = _pieces(tx, row, span)
        return snapshot_of(row, batches, _keys(row, pieces, span), states)

    def snapshot(self, of: str | Draft | None = None) -> QueueSnapshot:
        """Take a picture."""
        return self._pictures.snapshot(of)

    def results(
        self,
        ingestion_id: str,
        wanted: Sequence[ItemState],
        *,
        offset: int = 0,
        limit: int,
        after: int = -1,
    ) -> list[Result]:
        """Find the positions by the states; read the outcomes of just these."""
        with self._database.reading() as tx:
            row = self._row(tx, ingestion_id)
            positions = _positions(tx, row, wanted, offset, limit, after)
            indices = sorted({position // row.batch_size for position in positions})
            settled = tx.rows("outcomes", sequence=row.sequence, batches=indices)
            spans = [_span(run, row) for run in _runs(indices)]
            pieces = [_pieces(tx, row, span) for span in spans]
        # What is in them is read after that: it takes long, and no connection.
        outcomes = _outcomes(row, settled)
        keys: dict[int, int | str] = {}
        for span, of_span in zip(spans, pieces, strict=True):
            keys.update(zip(span, _keys(row, of_span, span), strict=True))
        return [
            Result(position, keys[position], *outcomes[position])
            for position in positions
            if position in outcomes
        ]

    def shortage(self) -> str | None:
        """Nobody here knows the disk of the server."""
        return None

    def ingestions(self, query: ListQuery) -> list[IngestionSnapshot]:
        """Read the rows from the newest on."""
        shown = None if query.word is None else Jsonb(shown_as(query.word))
        with self._database.reading() as tx:
            rows = tx.rows(
                "list",
                before=query.before,
                limit=query.limit,
                retention=self._options.retention,
                priority=None if query.priority is None else int(query.priority),
                shown=shown,
                submitted_by=query.submitted_by,
                unfinished=query.unfinished,
                outcome=None if query.outcome is None else query.outcome.value,
            )
        return [snapshot_of(row) for row in rows]

    def _row(self, tx: Transaction, ingestion_id: str) -> Any:
        row = tx.row("find", id=checked_id(ingestion_id), retention=self._options.retention)
        if row is None:
            raise IngestionNotFound
        return row


def snapshot_of(
    row: Any,
    batches: range = range(0),
    keys: Sequence[int] | Sequence[str] = (),
    states: bytes = b"",
) -> IngestionSnapshot:
    """Return what an ingestion's row says."""
    return IngestionSnapshot(
        ingestion_id=str(row.id),
        sequence=row.sequence,
        kind=Kind(row.kind),
        priority=Priority(row.priority),
        batch_size=row.batch_size,
        batches_total=row.batches,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        counts=counts_of(row),
        version=row.version,
        submitted_by=row.submitted_by,
        first_batch=batches.start,
        keys=keys,
        states=states,
    )


def _span(batches: range, row: Any) -> range:
    """Return the positions of the items of `batches`."""
    size, total = row.batch_size, row.total
    return range(min(batches.start * size, total), min(batches.stop * size, total))


def _pieces(tx: Transaction, row: Any, span: range) -> Sequence[Any]:
    if not span:
        return ()
    return tx.rows("content", sequence=row.sequence, start=span.start, end=span.stop)


def _keys(row: Any, pieces: Sequence[Any], span: range) -> Sequence[int] | Sequence[str]:
    return keys_of(Kind(row.kind), [Chunk(*piece) for piece in pieces], span)


def _states(tx: Transaction, row: Any, batches: range, span: range) -> bytes:
    """Return the states of the items at `span`; what has no row was never sent."""
    never_sent = ItemState.CANCELLED if row.cancelled else ItemState.QUEUED
    states = bytearray([never_sent]) * len(span)
    started = tx.rows("states", sequence=row.sequence, start=batches.start, end=batches.stop)
    for batch in started:
        at = batch.batch * row.batch_size - span.start
        states[at : at + len(batch.states)] = batch.states
    return bytes(states)


def _positions(
    tx: Transaction, row: Any, wanted: Sequence[ItemState], skip: int, limit: int, after: int
) -> list[int]:
    """Return up to `limit` positions of items in a state `wanted` behind `after`."""
    positions: list[int] = []
    batch = (after + 1) // row.batch_size
    while len(positions) < limit:
        started = tx.rows("states_from", sequence=row.sequence, start=batch, limit=_CHUNK)
        if not started:
            break
        for of_batch in started:
            first = of_batch.batch * row.batch_size
            hits = find_states(
                of_batch.states, wanted, max(0, after + 1 - first), len(of_batch.states)
            )
            if skip >= len(hits):
                skip -= len(hits)
                continue
            positions += [first + hit for hit in hits[skip:]]
            skip = 0
            if len(positions) >= limit:
                break
        batch = started[-1].batch + 1
    return positions[:limit]


def _outcomes(row: Any, settled: Iterable[Any]) -> Mapping[int, Any]:
    """Return the outcome of each item of the batches, and when it came, by position."""
    by_position: dict[int, Any] = {}
    for batch in settled:
        first = batch.batch * row.batch_size
        offsets = unpack_offsets(batch.offsets, row.batch_size)
        for offset, outcome in zip(offsets, decode_outcomes(batch.outcomes), strict=True):
            by_position[first + offset] = outcome, batch.at
    return by_position


def _runs(indices: Iterable[int]) -> list[range]:
    """Return sorted `indices` as ranges of those that follow one another."""
    ranges: list[range] = []
    for index in indices:
        if ranges and ranges[-1].stop == index:
            ranges[-1] = range(ranges[-1].start, index + 1)
        else:
            ranges.append(range(index, index + 1))
    return ranges
