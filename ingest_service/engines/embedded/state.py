"""The queue's state: dictionaries, queues and sums, kept true to one another.

Not locked: everything here is called by whoever holds the engine's lock.
"""

import heapq
import itertools
import math
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain

from ingest_service.domain.ingestion import Ingestion
from ingest_service.domain.model import Batch, Priority, Resend
from ingest_service.domain.pace import Pace
from ingest_service.domain.policy import QueueEntry
from ingest_service.domain.room import Waiting
from ingest_service.domain.slot_meter import SlotMeter
from ingest_service.domain.snapshot import PendingRetry
from ingest_service.engines import OperatorState, Slot
from ingest_service.engines.embedded.class_index import ClassIndex
from ingest_service.engines.embedded.in_flight import InFlightBatches
from ingest_service.engines.embedded.owned_items import OwnedItems
from ingest_service.engines.embedded.ready_queue import ReadyQueue
from ingest_service.engines.embedded.taken_slots import TakenSlots
from ingest_service.engines.embedded.watches import Watches

#: How long a finished ingestion stays in memory; those who follow it ask once more.
KEEP_IN_MEMORY = timedelta(seconds=60)


@dataclass(order=True, slots=True)
class _Retry:
    due: float
    tie: int
    ingestion: Ingestion = field(compare=False)
    resend: Resend = field(compare=False)


class QueueState:
    """All ingestions that are in memory, and the places of those that wait."""

    def __init__(self, pace: Pace, latency: Callable[[], float | None], now: float = 0.0) -> None:
        self.pace = pace
        self.meter = SlotMeter(now)
        self.operator = OperatorState()
        self.in_flight = InFlightBatches(latency)
        self.ready = ReadyQueue()
        self.taken = TakenSlots()
        #: How many slots were ever taken.
        self.slots = 0
        #: Since when the queue has not been empty (monotonic).
        self.filled_at = -math.inf
        #: Grows with every change of what waits.
        self.version = 0
        #: What was finished and is being opened again: while that is recorded neither the
        #: journal's lists nor the unfinished ones have it.
        self.reopening: Ingestion | None = None
        #: Grows whenever that changes.
        self.reopenings = 0
        #: Items of requests that are being recorded, and how many these are.
        self.reserved = 0
        self.arriving = 0
        #: What waits in each class.
        self.index = ClassIndex()
        #: What waits of each API key.
        self.owned = OwnedItems()
        self._ingestions: dict[str, Ingestion] = {}
        self._unfinished: dict[int, Ingestion] = {}
        #: The sequences of these, in order.
        self._sequences: list[int] = []
        #: When each was finished that is still in memory, oldest first.
        self._finished: dict[str, datetime] = {}
        self._since: dict[int, float] = {}
        self._retries: list[_Retry] = []
        self._ties = itertools.count()
        self.watches = Watches()
        #: What snapshots show of the retries, made anew after a change of them.
        self._pending: tuple[PendingRetry, ...] | None = ()

    # --- Looking ---

    def get(self, ingestion_id: str) -> Ingestion | None:
        """Return an ingestion that is in memory."""
        return self._ingestions.get(ingestion_id)

    def unfinished(self) -> int:
        """Return how many ingestions are not finished."""
        return len(self._unfinished)

    def unfinished_before(self, sequence: int, most: int) -> list[Ingestion]:
        """Return up to `most` unfinished ingestions with a smaller sequence, newest first."""
        end = bisect_left(self._sequences, sequence)
        chosen = self._sequences[max(0, end - most) : end]
        return [self._unfinished[number] for number in reversed(chosen)]

    @property
    def queued_items(self) -> int:
        """Items that wait, those being recorded included."""
        return self.reserved + self.index.items

    @property
    def waiting(self) -> int:
        """Ingestions that wait, those being recorded included."""
        return self.arriving + len(self.index)

    def retries(self) -> tuple[PendingRetry, ...]:
        """Return what joins later."""
        if self._pending is None:
            self._pending = tuple(
                PendingRetry(retry.due, self.entry(retry.ingestion, retry.due)._replace(batches=1))
                for retry in self._retries
            )
        return self._pending

    def reserve(self, items: int, owner: str | None, ingestions: int = 1) -> None:
        """Keep room for a request of an API key while it is recorded."""
        self.reserved += items
        self.arriving += ingestions
        self.owned.reserve(owner, items)

    def release(self, items: int, owner: str | None, ingestions: int = 1) -> None:
        """Give back what `reserve` kept."""
        self.reserve(-items, owner, -ingestions)

    def slots_until_gone(self, owner: str, items: int) -> int:
        """Return after how many slots so many of the items of an API key will be gone.

        If fewer wait, after how many those are.
        """
        items = min(items, self.owned.ready(owner))
        if not items:
            return 0
        priority, sequence, number = self.owned.nth(owner, items)
        return self.index.slots_before(priority, sequence, number)

    def entry(self, ingestion: Ingestion, now: float) -> QueueEntry:
        """Return the place of an ingestion, whether it is ready or not.

        By the sums: a batch that is taken waits until its start is recorded.
        """
        sequence, priority = ingestion.sequence, ingestion.priority
        since, ready = self._since.get(sequence, now), self.index.batches(priority, sequence)
        return QueueEntry(sequence, priority, since, ingestion.ingestion_id, ready)

    def waiting_of(self, sequence: int) -> tuple[int, Iterator[int]]:
        """Return how many items of an ingestion wait, and those of each batch; see `Waiting`."""
        ingestion = self._unfinished[sequence]
        later = (len(retry.resend.offsets) for retry in self.retries_of(ingestion))
        return ingestion.counts.queued, chain(ingestion.batch_sizes(), later)

    def waiting_of_owner(self, owner: str) -> Waiting:
        """Return the same for what came with an API key, and nothing else."""

        def waiting_of(sequence: int) -> tuple[int, Iterator[int]] | None:
            is_owned = self._unfinished[sequence].submission.submitted_by == owner
            return self.waiting_of(sequence) if is_owned else None

        return waiting_of

    def retries_of(self, ingestion: Ingestion) -> list[_Retry]:
        """Return what of an ingestion joins later."""
        if not ingestion.counts.retrying:
            return []
        return [retry for retry in self._retries if retry.ingestion is ingestion]

    def retry_due(self, ingestion: Ingestion) -> float | None:
        """Return when the next retry of an ingestion is due, None if none is pending."""
        return min((retry.due for retry in self.retries_of(ingestion)), default=None)

    def next_retry(self) -> float:
        """Return when the next retry of all is due, inf if none is pending."""
        return self._retries[0].due if self._retries else math.inf

    # --- Changing ---

    def add(self, ingestion: Ingestion, *, since: float, filled_at: float) -> bool:
        """Make an ingestion visible, and runnable if something of it is ready.

        `since` is when its waiting began and `filled_at` when the queue began to be
        not empty, if this makes it so (both monotonic). Return whether it does.
        """
        self._ingestions[ingestion.ingestion_id] = ingestion
        self._finished.pop(ingestion.ingestion_id, None)
        if ingestion.sequence not in self._unfinished:
            self._unfinished[ingestion.sequence] = ingestion
            insort(self._sequences, ingestion.sequence)
        self._since[ingestion.sequence] = since
        fills = self._enqueue(ingestion, filled_at)
        self._changed(ingestion)
        return fills

    def add_all(
        self, ingestions: Sequence[Ingestion], since: Sequence[float], filled_at: float
    ) -> None:
        """Do what `add` does for each, in the order of arrival, while there is nothing yet.

        A start may have a hundred thousand, and nobody is answered meanwhile: what is
        built at once takes a fraction of the time.
        """
        self._ingestions = {ingestion.ingestion_id: ingestion for ingestion in ingestions}
        self._unfinished = {ingestion.sequence: ingestion for ingestion in ingestions}
        self._sequences = list(self._unfinished)
        self._since = dict(zip(self._sequences, since, strict=True))
        for ingestion in ingestions:
            if ingestion.batches_left:
                self.ready.put(ingestion)
                self.filled_at = filled_at
            owner, items = ingestion.submission.submitted_by, ingestion.counts.queued
            self.owned.put(owner, ingestion.priority, ingestion.sequence, items)
            if ingestion.finished_at is not None:
                self._finish(ingestion)
        self.index.fill(ingestions, since)
        self.version += 1

    def take(self, priority: Priority) -> tuple[Ingestion, Batch]:
        """Take the first ingestion of a class; its next batch waits until its start is recorded."""
        ingestion = self.ready.get(priority)
        return ingestion, ingestion.first_batch_left()

    def put_back(self, ingestion: Ingestion) -> None:
        """Undo `take`."""
        self.ready.put(ingestion)

    def start(self, ingestion: Ingestion, slot: Slot, at: datetime) -> None:
        """Show a taken batch as started; the slot is spent."""
        ingestion.take(slot.batch)
        self.slots = slot.number
        self.meter.advance(self.pace, slot.at)
        self.meter.used += 1
        self.pace = self.pace.taken(slot.at)
        self.in_flight.add(slot)
        self.taken.add(ingestion, slot.batch, at)
        ingestion.start(slot.batch, at)
        ingestion.is_queued = False
        if ingestion.batches_left:
            self.ready.put(ingestion)
        self._changed(ingestion)

    def settle(self, ingestion: Ingestion, batch: Batch, states: bytes, at: datetime) -> None:
        """Show what became of a batch, a state an item."""
        self.taken.note_end(batch, states, at)
        waiting = ingestion.counts.queued
        ingestion.settle(batch, states, at)
        self._changed(ingestion, place=ingestion.counts.queued != waiting)

    def schedule(self, ingestion: Ingestion, resend: Resend, due: float) -> None:
        """Let what is sent again wait until `due`."""
        heapq.heappush(self._retries, _Retry(due, next(self._ties), ingestion, resend))
        self._pending = None
        self.version += 1

    def join_due(self, now: float) -> None:
        """Give what is due for another attempt its old place in the queue."""
        while self._retries and self._retries[0].due <= now:
            retry = heapq.heappop(self._retries)
            self._pending = None
            retry.ingestion.send_again([retry.resend])
            self._enqueue(retry.ingestion, -math.inf)
            self._changed(retry.ingestion)

    def cancel(self, ingestion: Ingestion, at: datetime) -> None:
        """Give up what is not under way."""
        if ingestion.counts.retrying:
            self._retries = [retry for retry in self._retries if retry.ingestion is not ingestion]
            heapq.heapify(self._retries)
            self._pending = None
        ingestion.cancel(at)
        ingestion.is_queued = False
        self._changed(ingestion)
        self._drop_stale(ingestion.priority)

    def begin_reopening(self, ingestion: Ingestion) -> None:
        """Keep an ingestion in sight that the journal may soon not call finished any more."""
        if ingestion.finished_at is not None:
            self._ingestions[ingestion.ingestion_id] = ingestion
            self._finished.setdefault(ingestion.ingestion_id, ingestion.finished_at)
            self.reopening = ingestion
            self.reopenings += 1

    def reopen(
        self, ingestion: Ingestion, failed: Collection[Resend], *, since: float, filled_at: float
    ) -> None:
        """Queue failed items of an ingestion, which may be finished, once more; see `add`."""
        ingestion.reopen(failed)
        self.add(ingestion, since=since, filled_at=filled_at)

    def end_reopening(self) -> None:
        """Note that it is as before, or among the unfinished ones."""
        self.reopening = None
        self.reopenings += 1

    def finish(self, ingestion: Ingestion, at: datetime) -> None:
        """Note the end of an ingestion of which everything was settled before."""
        ingestion.finished_at = at
        self._changed(ingestion)

    def move(self, ingestion: Ingestion, priority: Priority) -> None:
        """Give what is left of an ingestion another class."""
        left = ingestion.priority
        self.index.remove(left, ingestion.sequence)
        self.owned.remove(ingestion.submission.submitted_by, left, ingestion.sequence)
        self._pending = None
        ingestion.move(priority)
        if ingestion.is_queued:
            self.ready.put(ingestion)
        self._changed(ingestion)
        self._drop_stale(left)

    def forget_finished(self, now: datetime, *, expired: datetime) -> None:
        """Let go of what was finished a while ago; the journal knows it."""
        latest = max(now - KEEP_IN_MEMORY, expired)
        while self._finished:
            ingestion_id, at = next(iter(self._finished.items()))
            if at > latest:
                break
            del self._finished[ingestion_id], self._ingestions[ingestion_id]

    def forget(self, ingestion_id: str) -> None:
        """Let go of something finished that was deleted."""
        self._finished.pop(ingestion_id, None)
        self._ingestions.pop(ingestion_id, None)

    def next_forgotten(self) -> datetime | None:
        """Return when the next finished ingestion leaves the memory."""
        at = next(iter(self._finished.values()), None)
        return at and at + KEEP_IN_MEMORY

    def _drop_stale(self, priority: Priority) -> None:
        self.ready.drop_stale(priority, self.index.ready(priority))

    def _enqueue(self, ingestion: Ingestion, filled_at: float) -> bool:
        if not ingestion.batches_left or ingestion.is_queued:
            return False
        fills = not self.index.is_ready
        if fills:
            self.filled_at = filled_at
        self.ready.put(ingestion)
        return fills

    def _changed(self, ingestion: Ingestion, *, place: bool = True) -> None:
        """Bring everything that is derived from an ingestion up to date; its only place.

        `place` says whether what waits of it is not what it was.
        """
        self.version += 1
        if place:
            self._place(ingestion)
        if ingestion.finished_at is not None:
            self._finish(ingestion)
        self.watches.notify(ingestion.ingestion_id)

    def _place(self, ingestion: Ingestion) -> None:
        sequence, items = ingestion.sequence, ingestion.counts.queued
        if items:
            self.index.put(ingestion, self._since[sequence])
        else:
            self.index.remove(ingestion.priority, sequence)
        self.owned.put(ingestion.submission.submitted_by, ingestion.priority, sequence, items)

    def _finish(self, ingestion: Ingestion) -> None:
        if self._unfinished.pop(ingestion.sequence, None) is not None:
            del self._sequences[bisect_left(self._sequences, ingestion.sequence)]
        self._since.pop(ingestion.sequence, None)
        if ingestion.finished_at is not None:
            self._finished[ingestion.ingestion_id] = ingestion.finished_at
