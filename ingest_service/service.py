"""The one door to everything, for HTTP, for a command line and for tests."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from ingest_service import logs
from ingest_service.clock import Clock
from ingest_service.errors import IngestionNotFound, QueueFull, Stopping
from ingest_service.journal import IdempotencyKey, Journal
from ingest_service.line import Line
from ingest_service.model import (
    Ingestion,
    Items,
    ItemState,
    Kind,
    Outcome,
    Priority,
    new_ingestion_id,
)
from ingest_service.pace import Pace
from ingest_service.schedule import slots_until_started
from ingest_service.store import Snapshot, Store, snapshot_of
from ingest_service.worker import Worker


class Accepted(NamedTuple):
    """The answer to a request."""

    ingestion_id: str
    #: Whether the same request was answered before, under the same idempotency key.
    replayed: bool


class Result(NamedTuple):
    """What became of one item."""

    key: int | str
    outcome: Outcome
    at: datetime


@dataclass(frozen=True, slots=True)
class Health:
    """How the service is."""

    at: datetime
    worker_alive: bool
    unfinished: int
    queued_items: int


class IngestService:
    """Accepts work, tells about it; the worker does it."""

    def __init__(
        self,
        *,
        clock: Clock,
        pace: Pace,
        line: Line,
        store: Store,
        journal: Journal,
        worker: Worker,
        batch_sizes: dict[Kind, int],
        max_queued_items: int,
        retention: timedelta,
        last_sequence: int,
    ) -> None:
        self._clock = clock
        self._pace = pace
        self._line = line
        self._store = store
        self._journal = journal
        self._worker = worker
        self._batch_sizes = batch_sizes
        self._max_queued_items = max_queued_items
        self._retention = retention
        self._sequence = itertools.count(last_sequence + 1)

    def accept(self, items: Items, priority: Priority, key: str | None = None) -> Accepted:
        """Take responsibility for `items`: durable first, then visible, then runnable.

        Raise `QueueFull`, `StorageUnavailable`, `Stopping`, or `IdempotencyMismatch`
        if `key` stands for something else.
        """
        if self._worker.stopping:
            raise Stopping("The service is stopping and takes no new work.")
        ingestion = Ingestion(
            ingestion_id=new_ingestion_id(),
            sequence=next(self._sequence),
            priority=priority,
            items=items,
            batch_size=self._batch_sizes[items.kind],
            created_at=self._clock.now(),
        )
        claim = _idempotency_key(key, items, priority)
        try:
            self._reserve(len(items))
        except QueueFull:
            # What was accepted before is answered again, full or not.
            known = self._journal.known(claim, ingestion.created_at) if claim else None
            if known is None:
                raise
            return Accepted(known, replayed=True)
        try:
            ingestion_id = self._journal.accepted(ingestion, claim)
        except BaseException:
            self._store.release(len(items))
            raise
        if ingestion_id != ingestion.ingestion_id:
            self._store.release(len(items))
            return Accepted(ingestion_id, replayed=True)
        self._store.add(ingestion)
        self._worker.submit(ingestion)
        logs.event(
            "accepted",
            ingestion_id=ingestion_id,
            kind=items.kind,
            priority=priority.name,
            items=len(items),
        )
        return Accepted(ingestion_id, replayed=False)

    def status(self, ingestion_id: str, offset: int, limit: int) -> Snapshot:
        """Return the ingestion with the states of `limit` batches from batch `offset` on.

        Raise `IngestionNotFound`.
        """
        return self._snapshot(ingestion_id, range(offset, offset + limit))

    def results(
        self, ingestion_id: str, wanted: Sequence[ItemState], offset: int, limit: int
    ) -> tuple[Snapshot, list[Result]]:
        """Return up to `limit` results in the order of the items, without the first `offset`.

        Only items in one of the states `wanted` count. Raise `IngestionNotFound`.
        """
        snapshot = self._snapshot(ingestion_id, None)
        positions = _find(snapshot.states, wanted, offset, limit)
        indices = {position // snapshot.batch_size for position in positions}
        settled = self._journal.results(ingestion_id, indices)
        results = []
        for position in positions:
            at, outcome = settled[divmod(position, snapshot.batch_size)]
            (key,) = snapshot.items.keys(position, position + 1)
            results.append(Result(key, outcome, at))
        return snapshot, results

    def check_ready(self) -> None:
        """Return if work is taken and done; raise `Stopping` or `StorageUnavailable` if not."""
        if self._worker.stopping:
            raise Stopping("The service is stopping and takes no new work.")
        if not self._worker.alive:
            raise Stopping("The worker thread does not run.")
        self._journal.check()

    def _snapshot(self, ingestion_id: str, batches: range | None) -> Snapshot:
        """Look in memory, then in the journal, where the finished ones stay longer."""
        try:
            snapshot = self._store.snapshot(ingestion_id, batches)
        except IngestionNotFound:
            ingestion = self._journal.find(ingestion_id)
            if ingestion is None:
                raise
            snapshot = snapshot_of(ingestion, batches)
        expires = self._clock.now() - self._retention
        if snapshot.finished_at is not None and snapshot.finished_at < expires:
            raise IngestionNotFound
        return snapshot

    def health(self) -> Health:
        """Return how the service is, without touching the work."""
        return Health(
            at=self._clock.now(),
            worker_alive=self._worker.alive,
            unfinished=self._store.unfinished,
            queued_items=self._store.queued_items,
        )

    def _reserve(self, items: int) -> None:
        excess = self._store.reserve(items, self._max_queued_items)
        if excess:
            slots = slots_until_started(self._store.waiting(), excess)
            room_at = self._pace.opens_at(self._line.filled_at) + (slots - 1) * self._pace.interval
            raise QueueFull(max(0.0, room_at - self._clock.monotonic()))


def _idempotency_key(key: str | None, items: Items, priority: Priority) -> IdempotencyKey | None:
    if key is None:
        return None
    content = f"{items.kind} {priority.name} ".encode() + items.to_bytes()
    return IdempotencyKey(key, hashlib.sha256(content).digest())


def _find(states: bytes, wanted: Sequence[ItemState], offset: int, limit: int) -> list[int]:
    """Return the positions of the states `wanted`, without the first `offset`, at most `limit`."""
    found: list[int] = []
    for start in range(0, len(states), 4096):
        chunk = states[start : start + 4096]
        # Counting runs at the speed of memory, so whole chunks are skipped that way.
        hits = sum(chunk.count(state) for state in wanted)
        if offset >= hits:
            offset -= hits
            continue
        found += [start + at for at, state in enumerate(chunk) if state in wanted][offset:]
        offset = 0
        if len(found) >= limit:
            break
    return found[:limit]
