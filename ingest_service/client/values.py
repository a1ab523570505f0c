"""What the API answers, as plain values.

Keys that nobody knows are ignored, and words are plain texts, so that a newer server does
not break an older client. A value of the wrong type raises `BadAnswer`, which says where.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from ingest_service.client.errors import BadAnswer

T = TypeVar("T")
#: The classes, most urgent first.
PRIORITIES = ("HIGH", "MEDIUM", "LOW")


class Fields:
    """A JSON object that is read key by key."""

    def __init__(self, document: Any, where: str = "") -> None:
        if not isinstance(document, dict):
            raise BadAnswer(f"{where or '/'} should be an object in the answer.")
        self.document: Mapping[str, Any] = document
        self._where = where

    def text(self, key: str) -> str:
        """Return a text."""
        return self._get(key, str, "a text")

    def count(self, key: str) -> int:
        """Return a whole number."""
        return self._get(key, int, "a whole number")

    def number(self, key: str) -> float:
        """Return a number."""
        return float(self._get(key, (int, float), "a number"))

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self.document.get(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def time(self, key: str) -> datetime:
        """Return a moment, with its offset."""
        try:
            moment = datetime.fromisoformat(self.text(key))
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise self._wrong(key, "a time")
        return moment

    def optional(self, key: str, read: Callable[[str], T]) -> T | None:
        """Return what `read` makes of a key, None where it is null or absent."""
        return None if self.document.get(key) is None else read(key)

    def below(self, key: str) -> "Fields":
        """Return an object within this one."""
        return Fields(self.document.get(key), f"{self._where}/{key}")

    def optional_below(self, key: str) -> "Fields":
        """Return an object within this one, an empty one where it is null or absent."""
        return self.optional(key, self.below) or Fields({})

    def listed(self, key: str, read: Callable[["Fields"], T]) -> tuple[T, ...]:
        """Return what `read` makes of each object in a list."""
        entries = self._get(key, list, "a list")
        where = f"{self._where}/{key}"
        return tuple(read(Fields(entry, f"{where}/{at}")) for at, entry in enumerate(entries))

    def _get(self, key: str, kind: type[T] | tuple[type[T], ...], what: str) -> T:
        value = self.document.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self._wrong(key, what)
        return value

    def _wrong(self, key: str, what: str) -> BadAnswer:
        return BadAnswer(f"{self._where}/{key} should be {what} in the answer.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    #: All of the answer, also what has no name here.
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many items are where; the others always sum to `total`."""

    total: int
    queued: int
    in_flight: int
    succeeded: int
    failed: int
    cancelled: int

    @classmethod
    def parse(cls, fields: Fields) -> "Counts":
        """Read it."""
        return cls(*(fields.count(name) for name in cls.__slots__))

    @property
    def settled(self) -> int:
        """Items that have ended."""
        return self.succeeded + self.failed + self.cancelled


@dataclass(frozen=True, slots=True)
class Eta:
    """When something will run if nothing changes; None is what nobody can tell."""

    next_start_at: datetime | None = None
    finish_at: datetime | None = None
    latest_finish_at: datetime | None = None

    @classmethod
    def parse(cls, fields: Fields) -> "Eta":
        """Read it."""
        return cls(*(fields.optional(name, fields.time) for name in cls.__slots__))


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the line; None where it does not wait."""

    position: int | None = None
    batches_ahead: int | None = None

    @classmethod
    def parse(cls, fields: Fields) -> "Place":
        """Read it."""
        return cls(*(fields.optional(name, fields.count) for name in cls.__slots__))


@dataclass(frozen=True, slots=True)
class WhyWaiting:
    """The one reason why something is not finished; empty where it is."""

    code: str = ""
    message: str = ""
    until: datetime | None = None

    @classmethod
    def parse(cls, fields: Fields) -> "WhyWaiting":
        """Read it."""
        return cls(
            fields.optional("code", fields.text) or "",
            fields.optional("message", fields.text) or "",
            fields.optional("until", fields.time),
        )


@dataclass(frozen=True, slots=True)
class Status(_Answer):
    """Where an ingestion is."""

    ingestion_id: str
    #: In the words of its clients.
    status: str
    priority: str
    #: Percentage of settled items, rounded down.
    progress: int
    counts: Counts
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    #: How it ended, None before that.
    outcome: str | None
    queue: Place
    eta: Eta
    why_waiting: WhyWaiting

    @classmethod
    def parse(cls, fields: Fields) -> "Status":
        """Read it."""
        return cls(
            ingestion_id=_named(fields),
            status=fields.text("status"),
            priority=fields.text("priority"),
            progress=fields.count("progress"),
            counts=Counts.parse(fields.below("counts")),
            created_at=fields.time("created_at"),
            started_at=fields.optional("started_at", fields.time),
            finished_at=fields.optional("finished_at", fields.time),
            outcome=fields.optional("outcome", fields.text),
            queue=Place.parse(fields.optional_below("queue")),
            eta=Eta.parse(fields.optional_below("eta")),
            why_waiting=WhyWaiting.parse(fields.optional_below("why_waiting")),
            document=fields.document,
        )

    @property
    def is_finished(self) -> bool:
        """Whether nothing of it will change any more, unless it is tried again."""
        return self.outcome is not None


@dataclass(frozen=True, slots=True)
class Plan(_Answer):
    """What would become of a request."""

    priority: str
    items: int
    batches_total: int
    batch_size: int
    queue: Place
    eta: Eta

    @classmethod
    def parse(cls, fields: Fields) -> "Plan":
        """Read it."""
        return cls(
            priority=fields.text("priority"),
            items=fields.count("items"),
            batches_total=fields.count("batches_total"),
            batch_size=fields.count("batch_size"),
            queue=Place.parse(fields.optional_below("queue")),
            eta=Eta.parse(fields.optional_below("eta")),
            document=fields.document,
        )


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one item."""

    #: The id, or the id of the mapping.
    item: int | str
    succeeded: bool
    #: What the upstream answered, on success.
    processed_data: Any
    #: Why it failed.
    error: str | None
    timestamp: datetime
    attempts: int
    #: Of the upstream's last answer, if there was one.
    status_code: int | None

    @classmethod
    def parse(cls, fields: Fields) -> "Result":
        """Read it."""
        key = "mapping_id" if "mapping_id" in fields.document else "id"
        return cls(
            item=fields.text(key) if key == "mapping_id" else fields.count(key),
            succeeded=fields.text("status") == "success",
            processed_data=fields.document.get("processed_data"),
            error=fields.optional("error", fields.text),
            timestamp=fields.time("timestamp"),
            attempts=fields.count("attempts"),
            status_code=fields.optional("status_code", fields.count),
        )


@dataclass(frozen=True, slots=True)
class Cancelled(_Answer):
    """What a cancellation has done."""

    ingestion_id: str
    status: str
    cancelled_items: int
    #: Items under way, which end.
    in_flight_items: int

    @classmethod
    def parse(cls, fields: Fields) -> "Cancelled":
        """Read it."""
        return cls(
            _named(fields),
            fields.text("status"),
            fields.count("cancelled_items"),
            fields.count("in_flight_items"),
            document=fields.document,
        )


@dataclass(frozen=True, slots=True)
class Moved(_Answer):
    """The effect of another class."""

    ingestion_id: str
    priority: str
    old_priority: str
    old_eta: Eta
    new_eta: Eta
    #: Others that end later because of it, and by how many seconds at most.
    delayed_ingestions: int
    longest_delay_seconds: float

    @classmethod
    def parse(cls, fields: Fields) -> "Moved":
        """Read it."""
        old, new = fields.below("old"), fields.below("new")
        return cls(
            ingestion_id=_named(fields),
            priority=new.text("priority"),
            old_priority=old.text("priority"),
            old_eta=Eta.parse(old.optional_below("eta")),
            new_eta=Eta.parse(new.optional_below("eta")),
            delayed_ingestions=fields.count("delayed_ingestions"),
            longest_delay_seconds=fields.number("longest_delay_seconds"),
            document=fields.document,
        )


@dataclass(frozen=True, slots=True)
class Retried(_Answer):
    """What is sent once more."""

    ingestion_id: str
    status: str
    retried_items: int
    counts: Counts

    @classmethod
    def parse(cls, fields: Fields) -> "Retried":
        """Read it."""
        return cls(
            _named(fields),
            fields.text("status"),
            fields.count("retried_items"),
            Counts.parse(fields.below("counts")),
            document=fields.document,
        )


@dataclass(frozen=True, slots=True)
class Summary(_Answer):
    """An ingestion in a list."""

    ingestion_id: str
    kind: str
    status: str
    priority: str
    created_at: datetime
    finished_at: datetime | None
    outcome: str | None
    counts: Counts
    progress: int

    @classmethod
    def parse(cls, fields: Fields) -> "Summary":
        """Read it."""
        return cls(
            ingestion_id=fields.text("ingestion_id"),
            kind=fields.text("kind"),
            status=fields.text("status"),
            priority=fields.text("priority"),
            created_at=fields.time("created_at"),
            finished_at=fields.optional("finished_at", fields.time),
            outcome=fields.optional("outcome", fields.text),
            counts=Counts.parse(fields.below("counts")),
            progress=fields.count("progress"),
            document=fields.document,
        )


@dataclass(frozen=True, slots=True)
class Depth:
    """What waits in a class."""

    batches: int
    items: int
    ingestions: int
    #: When the oldest of these was accepted.
    oldest_at: datetime | None

    @classmethod
    def parse(cls, fields: Fields) -> "Depth":
        """Read it."""
        return cls(
            fields.count("batches"),
            fields.count("items"),
            fields.count("ingestions"),
            fields.optional("oldest_at", fields.time),
        )


@dataclass(frozen=True, slots=True)
class BatchUnderWay:
    """A batch that was started and has not ended."""

    ingestion_id: str
    batch_id: str
    items: int
    attempt: int

    @classmethod
    def parse(cls, fields: Fields) -> "BatchUnderWay":
        """Read it."""
        return cls(
            fields.text("ingestion_id"),
            fields.text("batch_id"),
            fields.count("items"),
            fields.count("attempt"),
        )


@dataclass(frozen=True, slots=True)
class ComingSlot:
    """A slot to come, if nothing changes."""

    at: datetime
    ingestion_id: str
    priority: str

    @classmethod
    def parse(cls, fields: Fields) -> "ComingSlot":
        """Read it."""
        return cls(fields.time("at"), fields.text("ingestion_id"), fields.text("priority"))


@dataclass(frozen=True, slots=True)
class Queue(_Answer):
    """The queue as a whole."""

    #: running, paused or held.
    state: str
    reason: str | None
    until: datetime | None
    interval_seconds: float
    policy: str
    #: By class.
    depth: Mapping[str, Depth]
    in_flight: tuple[BatchUnderWay, ...]
    next_slot_at: datetime | None
    next: tuple[ComingSlot, ...]

    @classmethod
    def parse(cls, fields: Fields) -> "Queue":
        """Read it."""
        depth = fields.below("depth")
        return cls(
            state=fields.text("state"),
            reason=fields.optional("reason", fields.text),
            until=fields.optional("until", fields.time),
            interval_seconds=fields.number("interval_seconds"),
            policy=fields.text("policy"),
            depth={name: Depth.parse(depth.below(name)) for name in PRIORITIES},
            in_flight=fields.listed("in_flight", BatchUnderWay.parse),
            next_slot_at=fields.optional("next_slot_at", fields.time),
            next=fields.listed("next", ComingSlot.parse),
            document=fields.document,
        )

    @property
    def waiting(self) -> int:
        """Ingestions that wait, of all classes."""
        return sum(depth.ingestions for depth in self.depth.values())


@dataclass(frozen=True, slots=True)
class EarlyStart:
    """A batch that was started too early."""

    at: datetime
    ingestion_id: str
    gap_seconds: float
    required_seconds: float

    @classmethod
    def parse(cls, fields: Fields) -> "EarlyStart":
        """Read it."""
        return cls(
            fields.time("at"),
            fields.text("ingestion_id"),
            fields.number("gap_seconds"),
            fields.number("required_seconds"),
        )


@dataclass(frozen=True, slots=True)
class RateProof(_Answer):
    """What the batch starts of a period show."""

    starts: int
    smallest_gap_seconds: float | None
    violations: int
    examples: tuple[EarlyStart, ...]

    @classmethod
    def parse(cls, fields: Fields) -> "RateProof":
        """Read it."""
        return cls(
            fields.count("starts"),
            fields.optional("smallest_gap_seconds", fields.number),
            fields.count("violations"),
            fields.listed("examples", EarlyStart.parse),
            document=fields.document,
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may have."""

    max_items: int = 1_000_000
    #: In bytes.
    max_body: int = 64 * 2**20

    @classmethod
    def parse(cls, fields: Fields) -> "Limits":
        """Read it from the health report; an older server does not tell."""
        usual = cls()
        return cls(
            fields.optional("max_items", fields.count) or usual.max_items,
            fields.optional("max_body", fields.count) or usual.max_body,
        )


def _named(fields: Fields) -> str:
    """Return the id of an ingestion, under either family's name."""
    key = "request_id" if "request_id" in fields.document else "ingestion_id"
    return fields.text(key)
