"""Taking responsibility for work: one transaction, which never waits for a slot's."""

import math
from concurrent.futures import Future
from typing import Any

import psycopg

from ingest_service import logs
from ingest_service.domain.ids import fresh_id
from ingest_service.domain.model import Priority
from ingest_service.domain.slot_times import SlotTimes
from ingest_service.engines import Acceptance, Draft, IdempotencyKey
from ingest_service.engines.chunks import content_chunks
from ingest_service.engines.options import KEY_LIFETIME, EngineOptions
from ingest_service.engines.postgres.database import Database, Transaction
from ingest_service.engines.postgres.reading import PostgresReading
from ingest_service.errors import IdempotencyMismatch, QueueFull, Stopping

#: What `check_room` raises.
_FULL = "IG001"
#: How many ingestions are looked at at a time for when there will be room.
_CHUNK = 1_000


class PostgresIntake:
    """See `Intake`."""

    def __init__(
        self, database: Database, options: EngineOptions, reading: PostgresReading
    ) -> None:
        self._database = database
        self._options = options
        self._reading = reading
        #: Whether nothing is taken any more.
        self.draining = False

    def accept(self, draft: Draft, key: IdempotencyKey | None) -> Acceptance:
        """Record `draft`; what is returned is durable already."""
        self._check_not_draining()
        ingestion_id = fresh_id()
        try:
            stands_for = self._record(draft, key, ingestion_id)
        except psycopg.Error as error:
            if error.sqlstate != _FULL:
                raise
            stands_for = self._earlier(key) or self._refuse(draft)
        if stands_for == ingestion_id:
            logs.event(
                "accepted",
                ingestion_id=ingestion_id,
                kind=draft.items.kind,
                priority=draft.priority.name,
                items=len(draft.items),
            )
        durable: Future[str] = Future()
        durable.set_result(stands_for)
        return Acceptance(ingestion_id, durable)

    def look(self, draft: Draft) -> None:
        """Check the room, and take none."""
        self._check_not_draining()
        self.check_room(len(draft.items))

    def check_room(self, items: int) -> None:
        """Raise `QueueFull` if there is no room for so many."""
        with self._database.reading() as tx:
            excess = self._excess(tx.row("depth"), items, 1)
        if any(excess):
            raise QueueFull(self._wait(*excess))

    def check_counted(self, tx: Transaction) -> None:
        """Raise `QueueFull` if what `tx` has counted already is too much."""
        excess = self._excess(tx.row("depth"), 0, 0)
        if any(excess):
            raise QueueFull(self._wait(*excess))

    def _check_not_draining(self) -> None:
        if self.draining:
            raise Stopping("The service is stopping and takes no new work.")

    def _record(self, draft: Draft, key: IdempotencyKey | None, ingestion_id: str) -> str:
        if key is None:
            # One way there and back, COMMIT included.
            with self._database.pipeline() as tx:
                self._add(tx, draft, ingestion_id)
            return ingestion_id
        with self._database.transaction() as tx:
            claimed = tx.row(
                "claim_key",
                key=key.key,
                digest=key.digest,
                id=ingestion_id,
                lifetime=KEY_LIFETIME,
            )
            if claimed is None:
                return self._known(tx, key) or ingestion_id
            with tx.connection.pipeline():
                self._add(tx, draft, ingestion_id)
        return ingestion_id

    def _add(self, tx: Transaction, draft: Draft, ingestion_id: str) -> None:
        chunks = list(content_chunks(draft.items))
        tx.run(
            "add_ingestion",
            id=ingestion_id,
            kind=draft.items.kind.value,
            priority=int(draft.priority),
            batch_size=draft.batch_size,
            batches=draft.batches_total,
            total=len(draft.items),
        )
        tx.run(
            "add_content",
            id=ingestion_id,
            first_items=[chunk.first_item for chunk in chunks],
            contents=[chunk.content for chunk in chunks],
            packings=[int(chunk.packing) for chunk in chunks],
        )
        tx.run("count_now")
        tx.run(
            "check_room",
            most_items=self._options.max_queued_items,
            most_ingestions=self._options.max_ingestions,
        )

    def _earlier(self, key: IdempotencyKey | None) -> str | None:
        """Return what was accepted before: that is answered again, full or not."""
        if key is None:
            return None
        with self._database.reading() as tx:
            return self._known(tx, key)

    def _known(self, tx: Transaction, key: IdempotencyKey) -> str | None:
        row = tx.row("find_key", key=key.key, lifetime=KEY_LIFETIME)
        if row is not None and row.digest != key.digest:
            raise IdempotencyMismatch
        return row and str(row.id)

    def _refuse(self, draft: Draft) -> str:
        self.check_room(len(draft.items))
        # It was full a moment ago.
        raise QueueFull(0.0)

    def _excess(self, depth: Any, items: int, ingestions: int) -> tuple[int, int]:
        options = self._options
        return (
            max(0, sum(depth.items) + items - options.max_queued_items),
            max(0, sum(depth.ingestions) + ingestions - options.max_ingestions),
        )

    def _wait(self, items: int, ingestions: int) -> float:
        """Return the seconds until so many of the items and ingestions will be gone."""
        snapshot = self._reading.snapshot()
        if math.isinf(snapshot.model.opens_at):
            return math.inf
        slots = max(self._slots_of(items, by_item=True), self._slots_of(ingestions, by_item=False))
        times = SlotTimes(snapshot.model, snapshot.now)
        return max(0.0, times.at(max(0, slots - 1)) - snapshot.now)

    def _slots_of(self, left: int, *, by_item: bool) -> int:
        slots = 0
        for priority in Priority:
            after = -1
            while left > 0 and (rows := self._line(priority, after)):
                for row in rows:
                    needed = -(-row.queued // row.batch_size)
                    gone = row.queued if by_item else 1
                    slots += needed if gone <= left else -(-needed * left // gone)
                    left -= min(left, gone)
                    if left <= 0:
                        break
                after = rows[-1].sequence
        return slots

    def _line(self, priority: Priority, after: int) -> list[Any]:
        with self._database.reading() as tx:
            return tx.rows("waiting_line", priority=int(priority), after=after, limit=_CHUNK)
