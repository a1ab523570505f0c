"""Records out of rows, which every engine asks for with the same columns."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ingest_service.domain.items import ITEMS, Kind
from ingest_service.engines.chunks import ITEMS_PER_CHUNK, Chunk
from ingest_service.engines.offsets import pack_offsets, unpack_offsets
from ingest_service.engines.transfer.records import IngestionRecord, ItemsRecord, StartRecord


def ingestion_of(row: Sequence[Any]) -> IngestionRecord:
    """Return the record of an ingestion; its counts are those of a finished one."""
    *head, finished_at, cancelled, deleted = row[:11]
    counts = None if finished_at is None else list(row[11:14])
    values = [*head, finished_at, bool(cancelled), bool(deleted), counts, *row[14:]]
    return IngestionRecord(*values)


def items_of(kind: Kind, chunks: Iterable[Chunk]) -> Iterator[ItemsRecord]:
    """Yield the items in `chunks`, in pieces of always the same length."""
    size = ITEMS_PER_CHUNK[kind]
    for chunk in chunks:
        items = ITEMS[kind].from_bytes(chunk.unpacked())
        # What an old version has begun has everything in one piece.
        for first in range(0, len(items), size):
            piece = ITEMS[kind](items[first : first + size])
            yield ItemsRecord(chunk.first_item + first, piece)


def start_of(row: Any, size: int) -> StartRecord:
    """Return the record of a start of a batch of `size` items."""
    final = None if row.outcomes is None else shortest(unpack_offsets(row.final, size), size)
    return StartRecord(
        row.start_no,
        row.attempt,
        shortest(unpack_offsets(row.offsets, size), size),
        row.at,
        row.gap,
        row.wire_gap,
        row.required,
        row.ended_at,
        final,
        row.outcomes,
    )


def shortest(offsets: Sequence[int], size: int) -> list[int] | None:
    """Return offsets as a record says them: None for all."""
    return None if len(offsets) == size else list(offsets)


def packed(offsets: Sequence[int] | None) -> bytes | None:
    """Return the offsets that a record says as they are stored: None for all."""
    return None if offsets is None else pack_offsets(offsets)
