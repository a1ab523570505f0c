"""What the service answers, as plain values in times for people."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from ingest_service.domain.model import Batch, Ingestion, Outcome, Priority
from ingest_service.domain.schedule import Forecast


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
    #: "running", "paused" or "held", why, and until when as far as that is known.
    state: str
    reason: str | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Prospects:
    """What an unfinished ingestion can expect."""

    #: Place in the line and batches ahead, None if nothing of it waits.
    position: int | None
    batches_ahead: int | None
    next_start_at: datetime | None
    finish_at: datetime | None
    latest_finish_at: datetime | None
    code: str
    message: str
    until: datetime | None
    #: Seconds until something of it will change.
    changes_in: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What would become of a request."""

    batches: int
    batch_size: int
    forecast: Forecast | None
    next_start_at: datetime | None
    finish_at: datetime | None
    latest_finish_at: datetime | None


@dataclass(frozen=True, slots=True)
class Depth:
    """What waits in a class."""

    batches: int
    items: int
    ingestions: int
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True)
class QueueReport:
    """The queue as a whole."""

    health: Health
    interval: float
    policy: str
    depth: dict[Priority, Depth]
    in_flight: list[Batch]
    #: The slots to come: (when, what).
    upcoming: list[tuple[datetime, Ingestion]]
