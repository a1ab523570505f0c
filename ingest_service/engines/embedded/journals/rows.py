"""Rows of the tables, from and to what the rest of the service knows."""

from array import array
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from ingest_service.domain.items import ITEMS, Kind
from ingest_service.domain.model import Counts, Ingestion, Priority
from ingest_service.engines.embedded.journal import Summary

Row = tuple[Any, ...]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_summary(row: Row) -> Summary:
    sequence, ingestion_id, kind, priority, *times, total, succeeded, failed, cancelled = row
    created_at, started_at, finished_at = (
        None if each is None else to_datetime(each) for each in times
    )
    return Summary(
        sequence=sequence,
        ingestion_id=ingestion_id,
        kind=Kind(kind),
        priority=Priority(priority),
        created_at=cast(datetime, created_at),
        started_at=started_at,
        finished_at=finished_at,
        counts=Counts(
            total=total,
            unsent=total - succeeded - failed - cancelled,
            in_flight=0,
            succeeded=succeeded,
            failed=failed,
            cancelled=cancelled,
            retrying=0,
        ),
    )


def to_ingestion(head: Sequence[Any], item_states: bytearray) -> Ingestion:
    sequence, ingestion_id, kind, priority, batch_size, created_at, started_at, content = head
    return Ingestion(
        ingestion_id=ingestion_id,
        sequence=sequence,
        priority=Priority(priority),
        items=ITEMS[Kind(kind)].from_bytes(content),
        batch_size=batch_size,
        created_at=to_datetime(created_at),
        started_at=None if started_at is None else to_datetime(started_at),
        item_states=item_states,
    )


def pack(offsets: Sequence[int]) -> bytes | None:
    """Return `places` as two bytes each; None for a range, which always means all."""
    return None if isinstance(offsets, range) else array("H", offsets).tobytes()


def unpack(packed: bytes | None, size: int) -> Sequence[int]:
    if packed is None:
        return range(size)
    offsets = array("H")
    offsets.frombytes(packed)
    return offsets.tolist()


def to_micros(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def to_datetime(micros: int) -> datetime:
    return _EPOCH + micros * _MICROSECOND


def runs(indices: Iterable[int]) -> list[tuple[int, int]]:
    """Return `indices` as (first, last) of those that follow one another."""
    found: list[tuple[int, int]] = []
    for index in sorted(indices):
        if found and found[-1][1] == index - 1:
            found[-1] = found[-1][0], index
        else:
            found.append((index, index))
    return found
