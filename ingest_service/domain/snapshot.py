"""The queue at one moment: frozen, and small however much waits."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from ingest_service.domain.model import Priority
from ingest_service.domain.pace import Pace
from ingest_service.domain.policy import QueueEntry, Rule
from ingest_service.domain.slot_times import SlotModel

#: How many of the first entries of each class a snapshot shows.
FRONT = 60
#: How many of the last slots it shows.
KEPT_SLOTS = 20


class PendingRetry(NamedTuple):
    """A batch that joins the queue later, for another attempt."""

    #: When (monotonic).
    due: float
    #: Its ingestion; `batches` is 1.
    entry: QueueEntry


class ClassTotals(NamedTuple):
    """What waits in a class."""

    #: Batches that could be started now.
    batches: int = 0
    #: Items that wait, for the first time or again.
    items: int = 0
    #: Ingestions they belong to.
    ingestions: int = 0
    #: When the oldest of these was accepted.
    oldest_at: datetime | None = None


class BatchUnderWay(NamedTuple):
    """A batch that was started and has not ended."""

    ingestion_id: str
    batch_id: str
    items: int
    attempt: int


class TakenSlot(NamedTuple):
    """A slot that was taken, and what became of the batch it served."""

    #: When the batch was started, and when it ended; None while it is under way.
    at: datetime
    ended_at: datetime | None
    ingestion_id: str
    batch_id: str
    #: The class at that time.
    priority: Priority
    #: Items that were sent; those that succeeded, failed for good, or are sent again.
    items: int
    succeeded: int = 0
    failed: int = 0
    retried: int = 0


class Forecast(NamedTuple):
    """When an ingestion is served, if nothing changes; instants are monotonic."""

    #: Its place among the ingestions that wait, from 1.
    position: int
    batches_ahead: int
    next_start_at: float
    finish_at: float
    #: When it is finished at the latest, whatever arrives later; None if that can be never.
    latest_finish_at: float | None


class Place(NamedTuple):
    """One ingestion, or one newcomer, in the queue."""

    sequence: int
    priority: Priority
    #: Batches that could be started now.
    batches: int
    #: When what waits for another attempt joins the queue, the earliest; None if nothing does.
    retry_due: float | None
    #: When its last batch under way will have ended, None if none is.
    under_way_until: float | None
    #: None if nothing of it waits, or nobody can tell.
    forecast: Forecast | None


class WorkerState(NamedTuple):
    """The thread, or the processes, that send batches."""

    alive: bool
    #: Whether it was told to start nothing more.
    stopping: bool = False
    #: What keeps it from working, in words; None if nothing does.
    trouble: str | None = None
    #: The same for the calls that it makes: it works, and the upstream gets less or nothing.
    upstream_trouble: str | None = None
    #: How many processes send batches; None where it is this one.
    processes: int | None = None
    #: When it looked last (monotonic); None if it never has, or nobody knows.
    stepped_at: float | None = None


class QueueSnapshot(NamedTuple):
    """Everything that decides what happens next, at one moment."""

    #: The moment on both clocks.
    now: float
    at: datetime
    rule: Rule
    pace: Pace
    model: SlotModel
    #: How many slots were ever taken; the next one has this number, from 0.
    slots: int
    totals: Mapping[Priority, ClassTotals]
    #: The first `FRONT` entries of each class, most urgent class first.
    front: tuple[tuple[QueueEntry, ...], ...]
    retries: tuple[PendingRetry, ...]
    in_flight: tuple[BatchUnderWay, ...]
    #: Ingestions that are not finished.
    unfinished: int
    worker: WorkerState
    #: The last slots that were taken, oldest first.
    taken: tuple[TakenSlot, ...] = ()
    place: Place | None = None

    @property
    def has_times(self) -> bool:
        """Whether anybody knows when slots open; of a paused queue nobody does."""
        return self.model.opens_at < math.inf

    @property
    def heads(self) -> tuple[QueueEntry, ...]:
        """The first of each class that has one."""
        return tuple(line[0] for line in self.front if line)

    @property
    def queued_items(self) -> int:
        """Items that wait, for the first time or again."""
        return sum(totals.items for totals in self.totals.values())
