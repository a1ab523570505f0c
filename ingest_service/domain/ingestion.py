"""An accepted request: what was asked for, how far it is, and a picture of it at one moment."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from ingest_service.domain.items import Items, Kind
from ingest_service.domain.model import (
    Batch,
    Counts,
    ItemState,
    Priority,
    Resend,
    batch_ids,
    some_or_all,
)


class Submission(NamedTuple):
    """What was asked for; never changes."""

    ingestion_id: str
    #: The order of arrival.
    sequence: int
    priority: Priority
    items: Items
    batch_size: int
    created_at: datetime
    #: Name of the API key it came with, None without one.
    submitted_by: str | None = None
    #: The request that it came with.
    request_id: str | None = None

    @property
    def kind(self) -> Kind:
        """What it consists of."""
        return self.items.kind

    @property
    def batches_total(self) -> int:
        """How many batches the items make."""
        return -(-len(self.items) // self.batch_size)

    def span(self, index: int) -> range:
        """Return the positions of the items of batch `index`."""
        start = index * self.batch_size
        return range(start, min(start + self.batch_size, len(self.items)))

    def keys(self, batches: range) -> Sequence[int] | Sequence[str]:
        """Return what a client calls the items of `batches`."""
        first, last = batches.start * self.batch_size, batches.stop * self.batch_size
        return self.items.keys(first, min(last, len(self.items))) if first < last else ()


class IngestionSnapshot(NamedTuple):
    """An ingestion at one moment, with the items of the batches asked for."""

    ingestion_id: str
    sequence: int
    kind: Kind
    priority: Priority
    batch_size: int
    batches_total: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    counts: Counts
    #: Grows with every change that can be seen.
    version: int
    #: Name of the API key it came with, None without one.
    submitted_by: str | None = None
    #: The first batch that `keys` and `states` tell about.
    first_batch: int = 0
    #: What a client calls the items of those batches.
    keys: Sequence[int] | Sequence[str] = ()
    #: A byte each, see `ItemState`.
    states: bytes = b""


@dataclass(slots=True)
class Ingestion:
    """How far a submission is. Changed only by the engine that owns it, under its lock."""

    submission: Submission
    priority: Priority
    started_at: datetime | None = None
    finished_at: datetime | None = None
    #: The first batch that was never taken.
    next_batch: int = 0
    #: What goes out before it. Most ingestions never have any, and an empty deque is large.
    resends: deque[Resend] | tuple[()] = ()
    #: Grows with every place in the ready queue; an entry of an earlier one is stale.
    queue_epoch: int = 0
    #: Whether it has an entry in the ready queue.
    is_queued: bool = False
    cancelled: bool = False
    #: Counts the changes that a client can see.
    version: int = 0
    item_states: bytearray = field(default_factory=bytearray)
    #: Counted along with every change, so that nobody has to scan the states.
    counts: Counts = field(init=False)

    def __post_init__(self) -> None:
        if self.item_states:
            self.recount()
            return
        # Nothing to count: there may be a hundred thousand of these at a start.
        total = len(self.submission.items)
        self.item_states = bytearray(total)
        self.counts = Counts(total, total, 0, 0, 0, 0, 0)

    @classmethod
    def of(cls, submission: Submission) -> "Ingestion":
        """Return a submission of which nothing has been sent."""
        return cls(submission, submission.priority)

    @property
    def ingestion_id(self) -> str:
        """Its id."""
        return self.submission.ingestion_id

    @property
    def sequence(self) -> int:
        """Its order of arrival."""
        return self.submission.sequence

    @property
    def batches_left(self) -> int:
        """How many batches could be taken now."""
        return len(self.resends) + self.submission.batches_total - self.next_batch

    def batch_sizes(self) -> Iterator[int]:
        """Yield how many items each batch has that could be taken now, in their order."""
        for resend in tuple(self.resends):
            yield len(resend.offsets)
        for index in range(self.next_batch, self.submission.batches_total):
            yield len(self.submission.span(index))

    def recount(self) -> None:
        """Count the states anew, after they were set from outside."""
        self.counts = Counts.of(self.item_states)

    def first_batch_left(self) -> Batch:
        """Return the batch that is to be taken next; nothing is changed by that."""
        if self.resends:
            return self.batch(self.resends[0])
        index = self.next_batch
        return self.batch(Resend(index, 1, 1, range(len(self.submission.span(index)))))

    def send_again(self, resends: Iterable[Resend]) -> None:
        """Add what goes out before what was never sent."""
        if not self.resends:
            self.resends = deque()
        self.resends.extend(resends)

    def take(self, batch: Batch) -> None:
        """Take `batch`, which is the first, out of what is left."""
        if self.resends:
            self.resends.popleft()
        else:
            self.next_batch = batch.index + 1

    def batch(self, resend: Resend) -> Batch:
        """Return the batch that sends what `resend` says."""
        submission, offsets = self.submission, resend.offsets
        (batch_id,) = batch_ids(submission.ingestion_id, (resend.index,))
        start = resend.index * submission.batch_size
        items = submission.items
        return Batch(
            ingestion_id=submission.ingestion_id,
            sequence=submission.sequence,
            batch_id=batch_id,
            kind=items.kind,
            index=resend.index,
            start_no=resend.start_no,
            attempt=resend.attempt,
            offsets=offsets,
            items=items[start : start + len(offsets)]
            if isinstance(offsets, range)
            else [items[start + offset] for offset in offsets],
        )

    def start(self, batch: Batch, at: datetime) -> None:
        """Show the items of `batch` as in flight."""
        self._mark(batch, bytes([ItemState.IN_FLIGHT]) * len(batch.offsets))
        if self.started_at is None:
            self.started_at = at

    def settle(self, batch: Batch, states: bytes, at: datetime) -> None:
        """Show what became of the items of `batch`, a state each."""
        self._mark(batch, self._settled(states))
        self._finish(at)

    def states_after(self, batch: Batch, states: bytes) -> bytearray | None:
        """Return the states as `settle` would leave them if that finishes it, otherwise None."""
        if self.counts.total - self.counts.settled > len(batch.offsets):
            return None
        states = self._settled(states)
        if ItemState.RETRYING in states:
            return None
        after = bytearray(self.item_states)
        for position, state in zip(self._positions(batch), states, strict=True):
            after[position] = state
        return after

    def states_if_cancelled(self) -> bytearray | None:
        """Return the states as `cancel` would leave them if that finishes it, otherwise None."""
        return None if self.counts.in_flight else self.item_states.translate(_CANCEL)

    def is_open(self, batch: Batch) -> bool:
        """Tell whether something that `batch` sends has no outcome yet."""
        return any(self.item_states[position] in _OPEN for position in self._positions(batch))

    def cancel(self, at: datetime) -> None:
        """Give up everything that is not in a batch under way."""
        self.cancelled = True
        self.resends = ()
        self.next_batch = self.submission.batches_total
        self.item_states = self.item_states.translate(_CANCEL)
        self.recount()
        self.version += 1
        self._finish(at)

    def move(self, priority: Priority) -> None:
        """Give what is left another class."""
        self.priority = priority
        self.version += 1

    def reopen(self, failed: Collection[Resend]) -> None:
        """Queue items that have failed once more."""
        for resend in failed:
            start = resend.index * self.submission.batch_size
            for offset in resend.offsets:
                self.item_states[start + offset] = ItemState.RETRYING
        self.send_again(failed)
        self.finished_at = None
        self.cancelled = False
        self.recount()
        self.version += 1

    def snapshot(
        self, batches: range, keys: Sequence[int] | Sequence[str] = ()
    ) -> IngestionSnapshot:
        """Return it as it is now, with the states of the items of `batches`, which have `keys`."""
        size, submission = self.submission.batch_size, self.submission
        first, last = batches.start * size, min(batches.stop * size, len(self.item_states))
        return IngestionSnapshot(
            ingestion_id=submission.ingestion_id,
            sequence=submission.sequence,
            kind=submission.kind,
            priority=self.priority,
            batch_size=size,
            batches_total=submission.batches_total,
            created_at=submission.created_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
            counts=self.counts,
            version=self.version,
            submitted_by=submission.submitted_by,
            first_batch=batches.start,
            keys=keys,
            states=bytes(self.item_states[first:last]),
        )

    def failed_batches(self, start_counts: dict[int, int]) -> list[Resend]:
        """Return what sends the failed items again, a batch each.

        Batches that are still being worked on are left out. `start_counts` tells how
        often each batch was started, by index.
        """
        resends = []
        states = self.item_states
        at = states.find(ItemState.FAILED)
        while at >= 0:
            index = at // self.submission.batch_size
            span = self.submission.span(index)
            of_batch = states[span.start : span.stop]
            if not _OPEN & set(of_batch):
                failed = [n for n, state in enumerate(of_batch) if state == ItemState.FAILED]
                offsets = some_or_all(failed, len(span))
                # One start number is the decision to do it, the next one does it.
                resends.append(Resend(index, start_counts.get(index, 0) + 2, 1, offsets))
            at = states.find(ItemState.FAILED, span.stop)
        return resends

    def _settled(self, states: bytes) -> bytes:
        return states.translate(_CANCEL) if self.cancelled else states

    def _mark(self, batch: Batch, states: bytes) -> None:
        if isinstance(batch.offsets, range):
            # All of it, as nearly always: one piece.
            first = batch.index * self.submission.batch_size
            piece = slice(first, first + len(states))
            before = self.item_states[piece]
            self.item_states[piece] = states
        else:
            positions = list(self._positions(batch))
            before = bytearray([self.item_states[position] for position in positions])
            for position, state in zip(positions, states, strict=True):
                self.item_states[position] = state
        # The counts are in the order of the states, behind the total.
        counts = list(self.counts)
        for state in {*before, *states}:
            counts[1 + state] += states.count(state) - before.count(state)
        self.counts = Counts(*counts)
        self.version += 1

    def _finish(self, at: datetime) -> None:
        self.finished_at = at if self.counts.status.final else None

    def _positions(self, batch: Batch) -> Iterator[int]:
        """Yield where the items that `batch` sends stand in the ingestion."""
        start = batch.index * self.submission.batch_size
        return (start + offset for offset in batch.offsets)


_OPEN = {ItemState.QUEUED, ItemState.IN_FLIGHT, ItemState.RETRYING}
#: Turns the states of items that wait into cancelled ones.
_CANCEL = bytes(
    ItemState.CANCELLED if state in (ItemState.QUEUED, ItemState.RETRYING) else state
    for state in range(256)
)
