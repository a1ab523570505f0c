"""The history as it is kept: counted in the transactions that happen anyway, added up later."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from ingest_service import json_text
from ingest_service.domain.history import MinuteRow, apart, minute_of
from ingest_service.domain.model import Priority
from ingest_service.domain.rollup import Counts, add, both
from ingest_service.engines.audit import Mark, MarkKind
from ingest_service.engines.history import MOST_MARKS, PACE_MARKS, Recorded
from ingest_service.engines.postgres.database import Transaction

#: Most of what was counted that one step adds up.
_MOST = 2_000


def count(tx: Transaction, counts: Counts, *, moved: bool = True) -> None:
    """Count what `tx` does, after its last change of an ingestion.

    `moved` tells whether it changes what waits; then that is noted too, when `tx` is committed.
    """
    tx.run("count", counts=Jsonb(counts), moved=moved)


def depth_of(row: Any) -> dict[str, int]:
    """Return what waits as `row` tells it, see `rollup.both`."""
    depth = {}
    for priority in Priority:
        of_batches, of_items = both("depth", priority)
        depth[of_batches], depth[of_items] = row.batches[priority - 1], row.items[priority - 1]
    return depth


def recorded(tx: Transaction, since: datetime, until: datetime, cuts: Iterable[int]) -> Recorded:
    """Read what is on record of a period, put together between `cuts`."""
    first, last = minute_of(since), minute_of(until - timedelta(microseconds=1))
    cuts = [first, *(cut for cut in cuts if first < cut <= last), last + 1]
    parts = tx.later("counts_of_parts", first=first, last=last, cuts=cuts)
    # Looked up while the others are decoded.
    waited = tx.later("depths_of_parts", cuts=cuts)
    counts = _counts(parts, first)
    depths = {row.minute: depth_of(row) for row in waited}
    rows, depth = [], None
    for minute in sorted(counts.keys() | depths.keys()):
        depth = depths.get(minute, depth)
        rows.append(MinuteRow(minute, counts.get(minute, {}), depth))
    kinds = [kind.value for kind in PACE_MARKS]
    marks = [
        Mark(row.at, MarkKind(row.kind), row.before, row.after)
        for row in tx.rows("pace_marks", kinds=kinds, since=since, limit=MOST_MARKS)
    ]
    return Recorded(rows, marks, tx.row("first_minute").minute)


def _counts(parts: Iterable[Any], first: int) -> dict[int, dict[str, int]]:
    """Return what was counted from `first` on, by the last minute of each part of an hour."""
    counts: dict[int, dict[str, int]] = {}
    rows = ((row.minute, row.is_sum, json_text.loads(row.counts.encode())) for row in parts)
    for minute, more in apart(rows):
        if minute >= first:
            add(counts.setdefault(minute, {}), more)
    return counts


def totals(tx: Transaction) -> Counts:
    """Return everything that was ever counted."""
    counts: dict[str, int] = {}
    for row in tx.rows("total_counts"):
        add(counts, row.counts)
    return counts


def roll_up(tx: Transaction) -> bool:
    """Add up a little of what was counted; return whether there is more."""
    if tx.row("lock_rollup") is None:
        return False
    return bool(tx.row("roll_up", most=_MOST).number == _MOST)


def forget(tx: Transaction, before: datetime) -> None:
    """Forget hours that ended before; their totals stay."""
    for what in ("rollups", "depths"):
        tx.run(f"forget_{what}", before=minute_of(before))
