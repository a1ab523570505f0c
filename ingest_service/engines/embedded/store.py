"""The state that everybody asks about: dictionaries behind one lock."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from ingest_service.clock import Clock
from ingest_service.domain.items import Items
from ingest_service.domain.model import (
    Batch,
    Counts,
    Ingestion,
    ItemState,
    Outcome,
    Priority,
    Resend,
)
from ingest_service.errors import IngestionNotFound


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
    #: Grows with every change that can be seen.
    version: int
    #: Position of the first item that `states` tells about.
    first: int
    #: A byte an item, see `ItemState`.
    states: bytes


#: How long a finished ingestion stays in memory; those who follow it ask once more.
KEEP_IN_MEMORY = timedelta(seconds=60)


def snapshot_of(ingestion: Ingestion, batches: range | None) -> Snapshot:
    """Return `ingestion` as it is now, with the states of the items of `batches` (None: all)."""
    size = ingestion.batch_size
    first = 0 if batches is None else batches.start * size
    last = None if batches is None else batches.stop * size
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
        version=ingestion.version,
        first=first,
        states=bytes(ingestion.item_states[first:last]),
    )


class _Watch:
    """Those who wait for an ingestion to change."""

    def __init__(self, lock: threading.Lock) -> None:
        self.condition = threading.Condition(lock)
        self.waiting = 0


class Store:
    """All ingestions by id. Readers get snapshots and never hold the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Notified when the ingestion changes visibly: one each, for all who wait for it.
        self._watched: dict[str, _Watch] = {}
        self._released = False
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
            ingestion.lined = bool(ingestion.left)
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
            if not ingestion.left:
                ingestion.lined = False
                return None
            batch = ingestion.cut()
            ingestion.lined = bool(ingestion.left)
            return batch, ingestion.lined

    def put_back(self, batch: Batch, at: datetime) -> Ingestion | None:
        """Undo `cut`, after which nobody has seen `batch` started; return what that finished."""
        with self._changing(batch.ingestion_id) as ingestion:
            ingestion.put_back(batch, at)
            ingestion.lined = bool(ingestion.left)
            return ingestion if ingestion.finished_at else None

    def send_again(self, ingestion_id: str, again: Resend) -> Ingestion | None:
        """Queue what is due for another attempt; return its ingestion if the line lacks it."""
        with self._changing(ingestion_id) as ingestion:
            if ingestion.cancelled:
                return None
            ingestion.send_again(again)
            return self._line_up(ingestion)

    def cancel(self, ingestion_id: str, at: datetime) -> None:
        """Give up what is not under way; from now on it cannot be cut any more."""
        with self._changing(ingestion_id) as ingestion:
            # It may have been finished by its last batch just now.
            if ingestion.finished_at is None:
                ingestion.cancel(at)

    def move(self, ingestion_id: str, priority: Priority) -> Ingestion | None:
        """Give an ingestion another class; return it if it needs a new place in the line."""
        with self._changing(ingestion_id) as ingestion:
            ingestion.priority = priority
            ingestion.moves += 1
            ingestion.version += 1
            return ingestion if ingestion.lined else None

    def reopen(self, ingestion: Ingestion, failed: Iterable[Resend]) -> Ingestion | None:
        """Queue failed items of `ingestion` once more; return it if the line lacks it."""
        with self._lock:
            self._ingestions.setdefault(ingestion.ingestion_id, ingestion)
            self._archived.pop(ingestion.ingestion_id, None)
        with self._changing(ingestion.ingestion_id) as known:
            queued = known.counts.queued
            known.reopen(failed)
            # The room for them was reserved; it is not to be counted twice.
            self._queued_items -= known.counts.queued - queued
            self._unfinished[known.ingestion_id] = known
            return self._line_up(known)

    def find(self, ingestion_id: str) -> Ingestion:
        """Return an ingestion to look at what never changes; raise `IngestionNotFound`."""
        with self._changing(ingestion_id) as ingestion:
            return ingestion

    def start(self, batch: Batch, at: datetime) -> None:
        """Show the items of `batch` as in flight."""
        self._mark(batch, [ItemState.IN_FLIGHT] * len(batch.items), at)

    def settle(self, batch: Batch, outcomes: Sequence[Outcome], at: datetime) -> Ingestion | None:
        """Show what became of the items of `batch`; return its ingestion if that finished it."""
        return self._mark(batch, [outcome.state for outcome in outcomes], at)

    def archive(self, ingestion_id: str, at: datetime) -> None:
        """Let go of a finished ingestion, which the journal knows by now, after a while."""
        with self._lock:
            self._ingestions[ingestion_id].recorded = True
            self._archived[ingestion_id] = at
            while self._archived:
                oldest = next(iter(self._archived))
                if self._archived[oldest] > at - KEEP_IN_MEMORY:
                    break
                del self._archived[oldest], self._ingestions[oldest]

    def snapshot(self, ingestion_id: str, batches: range | None = None) -> Snapshot:
        """Return the ingestion as it is now, with the states of the items of `batches` (None: all).

        Raise `IngestionNotFound`.
        """
        with self._changing(ingestion_id) as ingestion:
            return snapshot_of(ingestion, batches)

    def await_change(self, clock: Clock, ingestion_id: str, version: int, timeout: float) -> None:
        """Block until an ingestion has another version than `version`, or for `timeout` seconds.

        The lock is not held meanwhile.
        """
        self._await(clock, ingestion_id, lambda each: each.version != version, timeout)

    def await_start(self, clock: Clock, ingestion_id: str, timeout: float) -> None:
        """Block while a batch of an ingestion is cut and not started, or for `timeout` seconds."""
        self._await(clock, ingestion_id, lambda each: each.cutting is None, timeout)

    def _await(
        self,
        clock: Clock,
        ingestion_id: str,
        is_so: Callable[[Ingestion], bool],
        timeout: float,
    ) -> None:
        def ready() -> bool:
            ingestion = self._ingestions.get(ingestion_id)
            return self._released or ingestion is None or is_so(ingestion)

        with self._lock:
            if ready():
                return
            watched = self._watched.setdefault(ingestion_id, _Watch(self._lock))
            watched.waiting += 1
            clock.wait_for(watched.condition, ready, timeout)
            watched.waiting -= 1
            if not watched.waiting:
                del self._watched[ingestion_id]

    def release_waiters(self) -> None:
        """End all `await_change`, those to come included."""
        with self._lock:
            self._released = True
            for watched in self._watched.values():
                watched.condition.notify_all()

    def waiting(self) -> list[tuple[int, int]]:
        """Return (queued items, batch size) of what is queued, by class and arrival."""
        with self._lock:
            queued = [each for each in self._unfinished.values() if each.counts.queued]
        queued.sort(key=lambda each: (each.priority, each.sequence))
        return [(each.counts.queued, each.batch_size) for each in queued]

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

    def _line_up(self, ingestion: Ingestion) -> Ingestion | None:
        lacks = not ingestion.lined
        ingestion.lined = True
        return ingestion if lacks else None

    @contextmanager
    def _changing(self, ingestion_id: str) -> Iterator[Ingestion]:
        """Hold the lock; keep the totals true to whatever is done to the ingestion."""
        with self._lock:
            ingestion = self._ingestions.get(ingestion_id)
            if ingestion is None:
                raise IngestionNotFound
            queued, version = ingestion.counts.queued, ingestion.version
            yield ingestion
            self._queued_items += ingestion.counts.queued - queued
            if ingestion.finished_at is not None:
                self._unfinished.pop(ingestion_id, None)
            if ingestion.version != version and ingestion_id in self._watched:
                self._watched[ingestion_id].condition.notify_all()
