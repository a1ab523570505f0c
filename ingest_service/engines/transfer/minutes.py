"""The history on its way: the same minutes, whatever each engine leaves out."""

from collections.abc import Iterable, Iterator, Mapping

from ingest_service.domain.history import MinuteRow
from ingest_service.domain.rollup import Counts
from ingest_service.engines.transfer.records import MinuteRecord


def without_zeros(counts: Counts) -> dict[str, int]:
    """Return the counters that have counted something."""
    return {name: count for name, count in counts.items() if count}


def minute_records(rows: Iterable[MinuteRow]) -> Iterator[MinuteRecord]:
    """Yield minutes; each knows what waited at its end, but for the last one.

    Where that is not on record, as much waited as at the end of the one before.
    """
    depth: Mapping[str, int] | None = None
    last: MinuteRecord | None = None
    for row in rows:
        if last is not None:
            yield last
        if row.depth is not None:
            depth = without_zeros(row.depth)
        last = MinuteRecord(row.minute, without_zeros(row.counts), depth)
    if last is not None:
        yield MinuteRecord(last.minute, last.counts, None)
