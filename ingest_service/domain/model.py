"""The words of the domain as plain data; imports nothing of ours, knows no lock and no clock."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple, Self

from ingest_service.domain.items import Kind


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
    NO_WORKER = "no_worker"


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


def shown_as(word: str) -> list[tuple[Kind, Status]]:
    """Return which states of which families are shown as `word`."""
    return [
        (kind, status)
        for kind, family in FAMILIES.items()
        for status, shown in family.words.items()
        if shown == word
    ]


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
            return _SUCCEEDED
        return ItemState.RETRYING if self.transient else ItemState.FAILED


# Asked for once an item, and a member of an enum is slow to look up.
_SUCCEEDED = ItemState.SUCCEEDED


def states_of(outcomes: Iterable[Outcome]) -> bytes:
    """Return the states of items after these outcomes, a byte each, see `ItemState`."""
    return bytes([outcome.state for outcome in outcomes])


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
        """Return what sends the items at `offsets` again."""
        return Resend(self.index, self.start_no + 1, attempt, offsets)


@dataclass(frozen=True, slots=True)
class Resend:
    """A batch, or what is left of it, that is to be sent again."""

    index: int
    start_no: int
    attempt: int
    offsets: Sequence[int]


def some_or_all(offsets: Sequence[int], size: int) -> Sequence[int]:
    """Return which items of a batch of `size`; a range if all, by which the request is known."""
    return range(size) if len(offsets) == size else offsets


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


def batch_ids(ingestion_id: str, indices: Iterable[int]) -> Iterator[str]:
    """Yield the ids of the batches at `indices`: uuid4 strings, derived instead of stored.

    The last 48 random bits of the ingestion's id, counted on from, make the last
    group; so a batch has the same id after a restart, and its index can be told from it.
    """
    head, tail = ingestion_id[:24], int(ingestion_id[24:], 16) + 1
    return (f"{head}{(tail + index) & 0xFFFF_FFFF_FFFF:012x}" for index in indices)
