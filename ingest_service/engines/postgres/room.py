"""Whether there is room for more, and when there will be."""

from collections.abc import Iterator
from typing import Any

from ingest_service.domain.caller import Caller
from ingest_service.domain.model import Priority
from ingest_service.domain.room import Lacking, Waiting, opens_in
from ingest_service.domain.runs import Moment
from ingest_service.domain.snapshot import QueueSnapshot
from ingest_service.engines.options import EngineOptions
from ingest_service.engines.postgres.database import Database, Transaction
from ingest_service.engines.postgres.pictures import Pictures
from ingest_service.errors import QueueFull, QuotaFull

#: What the database says if there is none: in the queue, or for the key.
QUEUE_FULL = "IG001"
QUOTA_FULL = "IG002"
#: How many ingestions are looked at at a time.
_CHUNK = 1_000


class Room:
    """The bounds of the queue."""

    def __init__(self, database: Database, options: EngineOptions, pictures: Pictures) -> None:
        self._database = database
        self._options = options
        self._pictures = pictures

    def enforce(self, tx: Transaction, caller: Caller) -> None:
        """Have the database refuse what `tx` has added if that is too much; its last statements."""
        tx.run("count_now")
        tx.run(
            "check_room",
            most_items=self._options.max_queued_items,
            most_ingestions=self._options.max_ingestions,
            owner=caller.key,
            most_of_owner=caller.max_queued_items,
        )

    def check(self, caller: Caller, items: int, ingestions: int = 1) -> None:
        """Raise `QuotaFull` or `QueueFull` if there is no room for so many."""
        with self._database.reading() as tx:
            quota = self._over_quota(tx, caller, items)
            full = self._overfull(tx, items, ingestions)
        limit = caller.max_queued_items
        if limit is not None and items > limit:
            raise QuotaFull(limit, None)
        if limit is not None and quota is not None:
            raise QuotaFull(limit, self._opens_in(quota, caller.key))
        if full is not None:
            raise QueueFull(self._opens_in(full, None))

    def _over_quota(self, tx: Transaction, caller: Caller, items: int) -> Lacking | None:
        """Return what a key has too much waiting for so many more, None if it has not."""
        key, limit = caller.key, caller.max_queued_items
        if key is None or limit is None:
            return None
        row = tx.row("owned", owner=key)
        waiting = row.items if row else 0
        too_many = waiting + items - limit
        if too_many <= 0:
            return None
        return Lacking(too_many, 0, _slots_until_gone(tx, key, min(too_many, waiting)))

    def _overfull(self, tx: Transaction, items: int, ingestions: int) -> Lacking | None:
        """Return what waits too much for so many more, None if there is room."""
        depth, options = tx.row("depth"), self._options
        too_many_items = max(0, sum(depth.items) + items - options.max_queued_items)
        too_many = max(0, sum(depth.ingestions) + ingestions - options.max_ingestions)
        if not (too_many_items or too_many):
            return None
        slots = max(_slots_of_items(tx, too_many_items), _slots_of_ingestions(tx, too_many))
        return Lacking(too_many_items, too_many, slots)

    def _opens_in(self, lacking: Lacking, owner: str | None) -> float:
        """Return when that is gone (of what came with a key), in seconds; inf if nobody knows."""
        snapshot = self._pictures.snapshot(None)
        waiting = self._waiting(snapshot, owner)
        return opens_in(Moment.of(snapshot), snapshot.front, snapshot.retries, waiting, lacking)

    def _waiting(self, snapshot: QueueSnapshot, owner: str | None) -> Waiting:
        """Return what waits of what the next slots can serve, as if it went in full batches."""
        entries = [entry for line in snapshot.front for entry in line]
        entries += [retry.entry for retry in snapshot.retries]
        with self._database.reading() as tx:
            rows = tx.rows("waiting_of", sequences=[entry.sequence for entry in entries])
        found = {row.sequence: row for row in rows}

        def waiting(sequence: int) -> tuple[int, Iterator[int]] | None:
            row = found.get(sequence)
            if row is None or owner not in (None, row.submitted_by):
                return None
            sizes = range(row.queued, 0, -row.batch_size)
            return row.queued, (min(row.batch_size, left) for left in sizes)

        return waiting


def _slots_until_gone(tx: Transaction, owner: str, items: int) -> int:
    """Return after how many slots so many of the items of a key are gone."""
    place = {"priority": 0, "after": 0}
    while items > 0:
        rows = tx.rows("line_of_owner", owner=owner, limit=_CHUNK, **place)
        for row in rows:
            if row.queued >= items:
                ahead = tx.row("slots_ahead", priority=row.priority, sequence=row.sequence).slots
                return int(ahead + _part(row, items))
            items -= row.queued
        if not rows:
            break
        place = {"priority": rows[-1].priority, "after": rows[-1].sequence}
    return 0


def _slots_of_items(tx: Transaction, items: int) -> int:
    """Return after how many slots the first `items` items that wait are gone."""
    slots = 0
    for row in _line(tx, items):
        slots += _part(row, min(items, row.queued))
        items -= min(items, row.queued)
        if not items:
            break
    return slots


def _slots_of_ingestions(tx: Transaction, ingestions: int) -> int:
    """Return after how many slots the first ingestions that wait are gone."""
    return sum(_part(row, row.queued) for row in _line(tx, ingestions)[:ingestions])


def _part(row: Any, items: int) -> int:
    """Return how many slots the first `items` items of an ingestion take."""
    slots = -(-row.queued // row.batch_size)
    return int(-(-slots * items // row.queued))


def _line(tx: Transaction, most: int) -> list[Any]:
    """Return the first ingestions that wait: as many as can matter if each has one item."""
    rows: list[Any] = []
    for priority in Priority:
        left = min(most - len(rows), _MOST)
        if left > 0:
            rows += tx.rows("waiting_line", priority=int(priority), after=-1, limit=left)
    return rows


#: More ingestions are not looked at: what a refusal says is an estimate.
_MOST = 20_000
