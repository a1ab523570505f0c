"""What the API answers about the queue and the service as a whole, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ingest_service.client.fields import Documented, Fields
from ingest_service.client.values import PRIORITIES


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

    #: None, both of them, if it is none of the key's own and the key sees only these.
    ingestion_id: str | None
    batch_id: str | None
    items: int
    attempt: int

    @classmethod
    def parse(cls, fields: Fields) -> "BatchUnderWay":
        """Read it."""
        return cls(
            fields.optional("ingestion_id", fields.text),
            fields.optional("batch_id", fields.text),
            fields.count("items"),
            fields.count("attempt"),
        )


@dataclass(frozen=True, slots=True)
class ComingSlot:
    """A slot to come, if nothing changes."""

    at: datetime
    #: None if it is none of the key's own and the key sees only these.
    ingestion_id: str | None
    priority: str

    @classmethod
    def parse(cls, fields: Fields) -> "ComingSlot":
        """Read it."""
        ingestion_id = fields.optional("ingestion_id", fields.text)
        return cls(fields.time("at"), ingestion_id, fields.text("priority"))


@dataclass(frozen=True, slots=True)
class Queue(Documented):
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
    #: When everything has ended, if nothing is added; None if nobody knows.
    empty_at: datetime | None

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
            empty_at=fields.optional("empty_at", fields.time),
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
class RateProof(Documented):
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
