"""The words of the domain as plain data; imports nothing of ours, knows no lock and no clock."""

import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple, Self

from ingest_service.domain.items import Items, Kind


class Priority(IntEnum):
    """What goes first; a smaller number is served earlier."""

    HIGH = 1
    MEDIUM = 2
    LOW = 3


class OutcomeWord(StrEnum):
    """How a batch or an ingestion ended, in one word."""

    SUCCEEDED = "succeeded"
    PARTIALLY_FAILED = "partially_failed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class WaitCode(StrEnum):
    """Why an ingestion is not finished yet."""

    RATE_LIMIT = "rate_limit"
    IN_LINE = "in_line"
    HIGHER_PRIORITY = "higher_priority"
    SETTLING = "settling"
    PAUSED = "paused"
    UPSTREAM_HOLD = "upstream_hold"
    RETRY_BACKOFF = "retry_backoff"
    MAX_CONCURRENT = "max_concurrent"


class QueueState(StrEnum):
    """What the queue does."""

    RUNNING = "running"
    PAUSED = "paused"
    HELD = "held"


class ItemState(IntEnum):
    """Where an item is; one byte an item is all that the service keeps of it in memory."""

    #: Never sent.
    QUEUED = 0
    #: In a batch that was started.
    IN_FLIGHT = 1
    SUCCEEDED = 2
    FAILED = 3
    CANCELLED = 4
    #: Sent before, without an outcome; waits to be sent again.
    RETRYING = 5


class Status(StrEnum):
    """State of a batch or of a whole ingestion; each family of clients has words of its own."""

    WAITING = "waiting"
    STARTED = "started"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing will change any more."""
        return self not in (Status.WAITING, Status.STARTED)


@dataclass(frozen=True, slots=True)
class Family:
    """A family of clients, and the words it knows."""

    kind: Kind
    #: What an answer calls the id of an ingestion.
    id_key: str
    #: What it calls an item, and the items of a batch.
    item_key: str
    items_key: str
    #: The word for every status.
    words: Mapping[Status, str]


#: Clients of ids know three words and loop until `completed`, whatever becomes of the items.
_IDS_WORDS = {
    Status.WAITING: "yet_to_start",
    Status.STARTED: "triggered",
    Status.COMPLETED: "completed",
    Status.FAILED: "completed",
    Status.CANCELLED: "completed",
}
_MAPPINGS_WORDS = {
    Status.WAITING: "pending",
    Status.STARTED: "in_progress",
    Status.COMPLETED: "completed",
    Status.FAILED: "failed",
    Status.CANCELLED: "failed",
}
FAMILIES = {
    Kind.IDS: Family(Kind.IDS, "ingestion_id", "id", "ids", _IDS_WORDS),
    Kind.MAPPINGS: Family(
        Kind.MAPPINGS, "request_id", "mapping_id", "mapping_ids", _MAPPINGS_WORDS
    ),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item, or of one attempt at it."""

    succeeded: bool
    #: What the upstream answered, when it succeeded: anything JSON can say.
    processed_data: Any = None
    #: Why it failed, in words.
    error: str | None = None
    #: The HTTP status of the answer, if there was one.
    status_code: int | None = None
    #: How many attempts it took; the worker counts them.
    attempts: int = 1
    #: Whether another attempt may succeed.
    transient: bool = False
    #: Whether the upstream could not even be reached.
    unreachable: bool = False
    #: Whether nothing was sent at all.
    unsent: bool = False
    #: For how many seconds the upstream asks to be left alone.
    retry_after: float | None = None

    @property
    def state(self) -> ItemState:
        """The state the item is in from now on."""
        if self.succeeded:
            return ItemState.SUCCEEDED
        return ItemState.RETRYING if self.transient else ItemState.FAILED


@dataclass(frozen=True, slots=True)
class Batch:
    """Items that are sent together."""

    ingestion_id: str
    #: The sequence of its ingestion.
    sequence: int
    #: The same whenever it is sent.
    batch_id: str
    kind: Kind
    #: Which batch of its ingestion, from 0.
    index: int
    #: Which start of this batch, from 1.
    start_no: int
    #: Which attempt at its items, from 1: the starts that had an end, plus 1.
    attempt: int
    #: Which of the batch's items are sent this time, from 0; a range means all.
    offsets: Sequence[int]
    items: Sequence[Any]

    def pick(self, offsets: Sequence[int], attempt: int) -> "Resend":
        """Return what sends the items at `places` again."""
        return Resend(self.index, self.start_no + 1, attempt, offsets)


@dataclass(frozen=True, slots=True)
class Resend:
    """A batch, or what is left of it, that is to be sent again."""

    index: int
    start_no: int
    attempt: int
    offsets: Sequence[int]


#: Counted for every batch, and an enum is slow to go through.
_STATES = tuple(map(int, ItemState))


class Counts(NamedTuple):
    """How many items are where; all but the first sum to it, in the order of `ItemState`."""

    total: int
    unsent: int
    in_flight: int
    succeeded: int
    failed: int
    cancelled: int
    retrying: int

    @property
    def queued(self) -> int:
        """Number of items that wait, for the first time or again."""
        return self.unsent + self.retrying

    @property
    def settled(self) -> int:
        """Number of items with a final outcome."""
        return self.succeeded + self.failed + self.cancelled

    @property
    def status(self) -> Status:
        """State of what these items make up together."""
        if self.unsent == self.total:
            return Status.WAITING
        if self.settled < self.total:
            return Status.STARTED
        if self.cancelled:
            return Status.CANCELLED
        return Status.FAILED if self.failed == self.total else Status.COMPLETED

    @property
    def outcome(self) -> OutcomeWord | None:
        """One word for how it ended, None before that."""
        if self.settled < self.total:
            return None
        if self.cancelled:
            return OutcomeWord.CANCELLED
        if not self.failed:
            return OutcomeWord.SUCCEEDED
        if self.failed == self.total:
            return OutcomeWord.FAILED
        return OutcomeWord.PARTIALLY_FAILED

    @property
    def progress(self) -> int:
        """Whole percentage of settled items, rounded down: 100 only when all are."""
        return self.settled * 100 // self.total

    @classmethod
    def of(cls, states: bytes | bytearray) -> Self:
        """Count the items of `states`, a byte an item."""
        return cls(len(states), *map(states.count, _STATES))


@dataclass(slots=True)
class Ingestion:
    """An accepted request. Changed only by the methods below, only under the store's lock."""

    ingestion_id: str
    sequence: int
    priority: Priority
    items: Items
    batch_size: int
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    #: The first batch that was never cut.
    next_batch: int = 0
    #: What goes out before it.
    again: deque[Resend] = field(default_factory=deque)
    #: How many batches could be cut now.
    left: int = field(init=False)
    #: How often it was given another class; an entry from before that is stale.
    moves: int = 0
    #: Whether it has an entry in the line.
    lined: bool = False
    #: Cut, but not started yet.
    cutting: Batch | None = None
    cancelled: bool = False
    #: Whether the journal knows that it is finished.
    recorded: bool = False
    #: Counts the changes that a client can see.
    version: int = 0
    item_states: bytearray = field(default_factory=bytearray)
    #: Counted along with every change, so that nobody has to scan the states.
    counts: Counts = field(init=False)

    def __post_init__(self) -> None:
        if not self.item_states:
            self.item_states = bytearray(len(self.items))
        self.recount()

    def recount(self) -> None:
        """Count everything anew, after it was set from outside."""
        self.counts = Counts.of(self.item_states)
        self.left = len(self.again) + self.batches_total - self.next_batch

    @property
    def batches_total(self) -> int:
        """How many batches the items make."""
        return -(-len(self.items) // self.batch_size)

    def span(self, index: int) -> range:
        """Return the positions of the items of batch `index`."""
        start = index * self.batch_size
        return range(start, min(start + self.batch_size, len(self.items)))

    def cut(self) -> Batch:
        """Take the next batch out of what is left; nobody sees it as started yet."""
        if self.again:
            what = self.again.popleft()
        else:
            index = self.next_batch
            what = Resend(index, 1, 1, range(len(self.span(index))))
            self.next_batch += 1
        self.left -= 1
        self.cutting = self.batch(what)
        return self.cutting

    def put_back(self, batch: Batch, at: datetime) -> None:
        """Undo `cut`: the batch was not started after all."""
        self.cutting = None
        if self.cancelled:
            self.mark(batch, [ItemState.CANCELLED] * len(batch.offsets), at)
        else:
            self.again.appendleft(Resend(batch.index, batch.start_no, batch.attempt, batch.offsets))
            self.left += 1

    def send_again(self, again: Resend) -> None:
        """Add what is due for another attempt."""
        self.again.append(again)
        self.left += 1

    def cancel(self, at: datetime) -> None:
        """Give up everything that is not in a batch under way."""
        self.cancelled = True
        self.again.clear()
        self.next_batch = self.batches_total
        kept = {at: self.item_states[at] for at in self._positions(self.cutting)}
        self.item_states = self.item_states.translate(_CANCEL)
        for position, state in kept.items():
            self.item_states[position] = state
        self.recount()
        self._changed(at)

    def reopen(self, failed: Iterable[Resend]) -> None:
        """Queue items that have failed once more."""
        for again in failed:
            start = again.index * self.batch_size
            for place in again.offsets:
                self.item_states[start + place] = ItemState.RETRYING
            self.again.append(again)
        self.finished_at = None
        self.recorded = False
        self.recount()
        self.version += 1

    def batch(self, what: Resend) -> Batch:
        """Return the batch that sends `what`."""
        (batch_id,) = batch_ids(self.ingestion_id, range(what.index, what.index + 1))
        start = what.index * self.batch_size
        items = [self.items[start + place] for place in what.offsets]
        return Batch(
            ingestion_id=self.ingestion_id,
            sequence=self.sequence,
            batch_id=batch_id,
            kind=self.items.kind,
            index=what.index,
            start_no=what.start_no,
            attempt=what.attempt,
            offsets=what.offsets,
            items=items,
        )

    def mark(self, batch: Batch, states: Iterable[ItemState], at: datetime) -> None:
        """Set the states of the items that `batch` sends."""
        span = self.span(batch.index)
        before = Counts.of(self.item_states[span.start : span.stop])
        for position, state in zip(self._positions(batch), states, strict=True):
            given_up = self.cancelled and state is ItemState.RETRYING
            self.item_states[position] = ItemState.CANCELLED if given_up else state
        after = Counts.of(self.item_states[span.start : span.stop])
        changed = (
            had - lost + won for had, lost, won in zip(self.counts, before, after, strict=True)
        )
        # The batch's own total is taken away and added again.
        self.counts = Counts(*changed)
        self.cutting = None
        if self.started_at is None and after.in_flight:
            self.started_at = at
        self._changed(at)

    def _changed(self, at: datetime) -> None:
        self.version += 1
        self.finished_at = at if self.counts.status.final else None

    def _positions(self, batch: Batch | None) -> Iterator[int]:
        """Yield where the items that `batch` sends stand in the ingestion."""
        if batch is not None:
            start = batch.index * self.batch_size
            yield from (start + place for place in batch.offsets)


#: Turns the states of items that wait into cancelled ones.
_CANCEL = bytes(
    ItemState.CANCELLED if state in (ItemState.QUEUED, ItemState.RETRYING) else state
    for state in range(256)
)


def batch_ids(ingestion_id: str, indices: Iterable[int]) -> Iterator[str]:
    """Yield the ids of the batches at `indices`: uuid4 strings, derived instead of stored.

    The last 48 random bits of the ingestion's id, counted on from, make the last
    group; so a batch has the same id after a restart, and its index can be told from it.
    """
    head, tail = ingestion_id[:24], int(ingestion_id[24:], 16) + 1
    return (f"{head}{(tail + index) & 0xFFFF_FFFF_FFFF:012x}" for index in indices)


def new_ingestion_id() -> str:
    """Return a fresh lower-case uuid4 string."""
    return str(uuid.uuid4())
