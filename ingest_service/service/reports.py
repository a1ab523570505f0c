"""What the service answers, as plain values in times for people."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from ingest_service.domain.ingestion import IngestionSnapshot
from ingest_service.domain.model import Priority, QueueState, WaitCode
from ingest_service.domain.rollup import Counts
from ingest_service.domain.snapshot import ClassTotals, QueueSnapshot
from ingest_service.engines.vitals import Vitals


class Eta(NamedTuple):
    """When an ingestion will run, if nothing changes; None is what nobody can tell."""

    #: Its place in the queue and the batches ahead of it, None if nothing of it waits.
    position: int | None = None
    batches_ahead: int | None = None
    next_start_at: datetime | None = None
    finish_at: datetime | None = None
    #: When at the latest, whatever arrives later; None where that can be never.
    latest_finish_at: datetime | None = None


class Estimate(NamedTuple):
    """What an unfinished ingestion can expect, and why it is not finished."""

    eta: Eta
    code: WaitCode
    message: str
    until: datetime | None
    #: Seconds until something of it will change.
    changes_in: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What would become of a request."""

    batches: int
    batch_size: int
    eta: Eta


@dataclass(frozen=True, slots=True)
class Health:
    """How the service is."""

    at: datetime
    worker_alive: bool
    #: How many processes send batches; where it is this one, 1 or 0.
    workers: int
    #: What keeps the worker or its calls from going on, in words; None if nothing does.
    trouble: str | None
    unfinished: int
    queued_items: int
    #: What the queue does, why, and until when as far as that is known.
    state: QueueState
    reason: str | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class ComingSlot:
    """A slot to come, and what it serves."""

    at: datetime
    #: None if it does not exist for the caller.
    ingestion_id: str | None
    priority: Priority


class BatchInFlight(NamedTuple):
    """A batch under way; its ids are None if they do not exist for the caller."""

    ingestion_id: str | None
    batch_id: str | None
    items: int
    attempt: int


class PastSlot(NamedTuple):
    """A slot that was taken, as it is told; see `domain.snapshot.TakenSlot`."""

    at: datetime
    ended_at: datetime | None
    #: None if it does not exist for the caller, as is the batch.
    ingestion_id: str | None
    batch_id: str | None
    priority: Priority
    items: int
    succeeded: int
    failed: int
    retried: int


@dataclass(frozen=True, slots=True)
class QueueReport:
    """The queue as a whole."""

    health: Health
    interval: float
    policy: str
    depth: dict[Priority, ClassTotals]
    in_flight: list[BatchInFlight]
    #: The last slots that were taken, oldest first, and those to come.
    taken: list[PastSlot]
    upcoming: list[ComingSlot]
    #: When nothing waits any more and everything has ended; None if nobody knows.
    empty_at: datetime | None


@dataclass(frozen=True, slots=True)
class MoveReport:
    """The effect of another class."""

    snapshot: IngestionSnapshot
    old: Priority
    new: Priority
    eta_before: Eta | None
    eta_after: Eta | None
    #: How many other ingestions end later because of it, and by how many seconds at most.
    delayed: int
    longest_delay: float


class Measurements(NamedTuple):
    """What a monitoring system collects."""

    queue: QueueSnapshot
    #: Everything that was ever counted, see `domain.rollup`.
    totals: Counts
    vitals: Vitals
