"""Taking responsibility for work: one transaction, which never waits for a slot's."""

from concurrent.futures import Future

import psycopg

from ingest_service import logs
from ingest_service.domain import rollup
from ingest_service.domain.ids import fresh_id
from ingest_service.engines import Acceptance, Draft, IdempotencyKey
from ingest_service.engines.chunks import content_chunks
from ingest_service.engines.options import KEY_LIFETIME
from ingest_service.engines.postgres.database import Database, Transaction
from ingest_service.engines.postgres.rollups import count
from ingest_service.engines.postgres.room import QUEUE_FULL, QUOTA_FULL, Room
from ingest_service.errors import IdempotencyMismatch, QueueFull, Stopping


class PostgresIntake:
    """See `Intake`."""

    def __init__(self, database: Database, room: Room) -> None:
        self._database = database
        self._room = room
        #: Whether nothing is taken any more.
        self.draining = False

    def accept(self, draft: Draft, key: IdempotencyKey | None) -> Acceptance:
        """Record `draft`; what is returned is durable already."""
        self._check_not_draining()
        ingestion_id = fresh_id()
        try:
            stands_for = self._record(draft, key, ingestion_id)
        except psycopg.Error as error:
            if error.sqlstate not in (QUEUE_FULL, QUOTA_FULL):
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
        self._room.check(draft.caller, len(draft.items))

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
                owner=key.owner or "",
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
            submitted_by=draft.caller.key,
            request_id=draft.caller.request_id,
        )
        tx.run(
            "add_content",
            id=ingestion_id,
            first_items=[chunk.first_item for chunk in chunks],
            contents=[chunk.content for chunk in chunks],
            packings=[int(chunk.packing) for chunk in chunks],
        )
        count(tx, rollup.accepted(draft.priority, draft.batches_total, len(draft.items)))
        self._room.enforce(tx, draft.caller)

    def _earlier(self, key: IdempotencyKey | None) -> str | None:
        """Return what was accepted before: that is answered again, full or not."""
        if key is None:
            return None
        with self._database.reading() as tx:
            return self._known(tx, key)

    def _known(self, tx: Transaction, key: IdempotencyKey) -> str | None:
        row = tx.row("find_key", owner=key.owner or "", key=key.key, lifetime=KEY_LIFETIME)
        if row is not None and row.digest != key.digest:
            raise IdempotencyMismatch
        return row and str(row.id)

    def _refuse(self, draft: Draft) -> str:
        self._room.check(draft.caller, len(draft.items))
        # It was full a moment ago.
        raise QueueFull(0.0)
