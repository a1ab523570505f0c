"""Taking responsibility for work: one transaction, which never waits for a slot's."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from ingest_service import logs
from ingest_service.domain import rollup
from ingest_service.domain.ids import fresh_id
from ingest_service.engines import Acceptance, Draft, IdempotencyKey
from ingest_service.engines.chunks import Chunk, content_chunks
from ingest_service.engines.options import KEY_LIFETIME
from ingest_service.engines.postgres.database import Database, Transaction
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
        # Before the transaction: it takes long for much, and with a key others wait meanwhile.
        chunks = list(content_chunks(draft.items))
        # One way there and back, COMMIT included.
        with self._database.pipeline() as tx:
            claim = None if key is None else self._claim(tx, key, ingestion_id)
            self._add(tx, draft, chunks, ingestion_id, keyed=key is not None)
        if claim is None or claim.rowcount:
            return ingestion_id
        # It stands for another one, unless that was over a moment ago.
        return self._earlier(key) or self._record(draft, key, ingestion_id)

    def _claim(
        self, tx: Transaction, key: IdempotencyKey, ingestion_id: str
    ) -> psycopg.Cursor[Any]:
        return tx.later(
            "claim_key",
            owner=key.owner or "",
            key=key.key,
            digest=key.digest,
            id=ingestion_id,
            lifetime=KEY_LIFETIME,
        )

    def _add(
        self,
        tx: Transaction,
        draft: Draft,
        chunks: Sequence[Chunk],
        ingestion_id: str,
        *,
        keyed: bool,
    ) -> None:
        """Add an ingestion; one that is `keyed` only if its key was claimed for it."""
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
            keyed=keyed,
        )
        tx.run(
            "add_content",
            id=ingestion_id,
            first_items=[chunk.first_item for chunk in chunks],
            contents=[chunk.content for chunk in chunks],
            packings=[int(chunk.packing) for chunk in chunks],
        )
        counts = rollup.accepted(draft.priority, draft.batches_total, len(draft.items))
        tx.run("count_accepted", id=ingestion_id, counts=Jsonb(counts))
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
