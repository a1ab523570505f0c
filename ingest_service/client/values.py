"""What the API answers, as plain values.

Keys that nobody knows are ignored, and words are plain texts, so that a newer server does
not break an older client. A value of the wrong type raises `BadAnswer`, which says where.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ingest_service.client.fields import Documented, Fields

#: The classes, most urgent first.
PRIORITIES = ("HIGH", "MEDIUM", "LOW")


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
class Status(Documented):
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
class Plan(Documented):
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
class Cancelled(Documented):
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
class Moved(Documented):
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
class Retried(Documented):
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
class Summary(Documented):
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


def _named(fields: Fields) -> str:
    """Return the id of an ingestion, under either family's name."""
    key = "request_id" if "request_id" in fields.document else "ingestion_id"
    return fields.text(key)
