"""The state that everybody asks about: dictionaries behind one lock."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from ingest_service.errors import IngestionNotFound
from ingest_service.model import (
    Again,
    Batch,
    Counts,
    Ingestion,
    Items,
    ItemState,
    Outcome,
    Priority,
)
from ingest_service.schedule import Waiting


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An ingestion at one moment, with the states of the items asked for."""

    ingestion_id: str
    priority: Priority
    #: All items; they never change.
    items: Items
    batch_size: int
    batches_total: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    counts: Counts
    #: Position of the first item that `states` tells about.
    first: int
    #: A byte an item, see `ItemState`.
    states: bytes


#: How long a finished ingestion stays in memory; those who follow it ask once more.
LINGER = timedelta(seconds=60)


def snapshot_of(ingestion: Ingestion, batches: range | None) -> Snapshot:
    """Return `ingestion` as it is now, with the states of the items of `batches` (None: all)."""
    size = ingestion.batch_size
    first = batches.start * size if batches else 0
    last = batches.stop * size if batches else None
    return Snapshot(
        ingestion_id=ingestion.ingestion_id,
        priority=ingestion.priority,
        items=ingestion.items,
        batch_size=size,
        batches_total=ingestion.batches_total,
        created_at=ingestion.created_at,
        started_at=ingestion.started_at,
        finished_at=ingestion.finished_at,
        counts=ingestion.counts,
        first=first,
        states=bytes(ingestion.item_states[first:last]),
    )


class Store:
    """All ingestions by id. Readers get snapshots and never hold the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ingestions: dict[str, Ingestion] = {}
        self._unfinished: dict[str, Ingestion] = {}
        #: When each was archived, oldest first.
        self._archived: dict[str, datetime] = {}
        self._queued_items = 0

    def reserve(self, items: int, limit: int) -> int:
        """Make room for `items` in the queue; return by how many they are too many.

        Nothing is reserved unless that is 0.
        """
        with self._lock:
            excess = max(0, self._queued_items + items - limit)
            if not excess:
                self._queued_items += items
            return excess

    def release(self, items: int) -> None:
        """Give back room that was reserved and is not needed."""
        with self._lock:
            self._queued_items -= items

    def add(self, ingestion: Ingestion) -> None:
        """Make `ingestion`, whose room for the queue was reserved, visible."""
        with self._lock:
            ingestion.lined = ingestion.has_more
            self._ingestions[ingestion.ingestion_id] = ingestion
            self._unfinished[ingestion.ingestion_id] = ingestion

    def recover(self, ingestion: Ingestion) -> None:
        """Make an ingestion visible that was accepted before a restart."""
        with self._lock:
            self._queued_items += ingestion.counts.queued
        self.add(ingestion)

    def cut(self, ingestion_id: str) -> tuple[Batch, bool] | None:
        """Take the next batch, None if none is left; tell whether more are left after it."""
        with self._changing(ingestion_id) as ingestion:
            if not ingestion.has_more:
                ingestion.lined = False
                return None
            batch = ingestion.cut()
            ingestion.lined = ingestion.has_more
            return batch, ingestion.lined

    def put_back(self, batch: Batch) -> None:
        """Undo `cut`, after which nobody has seen `batch` started."""
        with self._changing(batch.ingestion_id) as ingestion:
            ingestion.put_back(batch)
            ingestion.lined = True

    def send_again(self, ingestion_id: str, again: Again) -> Ingestion | None:
        """Queue what is due for another attempt; return its ingestion if the line lacks it."""
        with self._changing(ingestion_id) as ingestion:
            ingestion.again.append(again)
            lacks = not ingestion.lined
            ingestion.lined = True
            return ingestion if lacks else None

    def start(self, batch: Batch, at: datetime) -> None:
        """Show the items of `batch` as in flight."""
        self._mark(batch, [ItemState.IN_FLIGHT] * len(batch.items), at)

    def settle(self, batch: Batch, outcomes: Sequence[Outcome], at: datetime) -> Ingestion | None:
        """Show what became of the items of `batch`; return its ingestion if that finished it."""
        return self._mark(batch, [outcome.state for outcome in outcomes], at)

    def archive(self, ingestion_id: str, at: datetime) -> None:
        """Let go of a finished ingestion, which the journal knows by now, after a while."""
        with self._lock:
            self._archived[ingestion_id] = at
            while self._archived:
                oldest = next(iter(self._archived))
                if self._archived[oldest] > at - LINGER:
                    break
                del self._archived[oldest], self._ingestions[oldest]

    def snapshot(self, ingestion_id: str, batches: range | None = None) -> Snapshot:
        """Return the ingestion as it is now, with the states of the items of `batches` (None: all).

        Raise `IngestionNotFound`.
        """
        with self._changing(ingestion_id) as ingestion:
            return snapshot_of(ingestion, batches)

    def waiting(self) -> list[Waiting]:
        """Return what is queued, in the order in which it will be served."""
        with self._lock:
            return sorted(
                Waiting(each.priority, each.sequence, each.counts.queued, each.batch_size)
                for each in self._unfinished.values()
                if each.counts.queued
            )

    @property
    def unfinished(self) -> int:
        """Number of ingestions that are not finished."""
        with self._lock:
            return len(self._unfinished)

    @property
    def queued_items(self) -> int:
        """Number of items that wait, those with reserved room included."""
        with self._lock:
            return self._queued_items

    def _mark(self, batch: Batch, states: Sequence[ItemState], at: datetime) -> Ingestion | None:
        with self._changing(batch.ingestion_id) as ingestion:
            ingestion.mark(batch, states, at)
            return ingestion if ingestion.finished_at else None

    @contextmanager
    def _changing(self, ingestion_id: str) -> Iterator[Ingestion]:
        """Hold the lock; keep the totals true to whatever is done to the ingestion."""
        with self._lock:
            ingestion = self._ingestions.get(ingestion_id)
            if ingestion is None:
                raise IngestionNotFound
            queued = ingestion.counts.queued
            yield ingestion
            self._queued_items += ingestion.counts.queued - queued
            if ingestion.finished_at is not None:
                self._unfinished.pop(ingestion_id, None)
