"""The queue of what waits: one `queue.PriorityQueue` a class, one entry an ingestion."""

import queue
from typing import NamedTuple

from ingest_service.domain.ingestion import Ingestion
from ingest_service.domain.model import Priority

#: So many stale entries are never worth the trouble.
_FEW = 100


class Entry(NamedTuple):
    """A place in the queue: by order of arrival, which a counter tells and no clock.

    Under a frozen clock all times are equal. No two entries have the same sequence
    and epoch, so that ingestions are never compared.
    """

    sequence: int
    #: Which of its ingestion's places this is, see `Ingestion.queue_epoch`.
    epoch: int
    ingestion: Ingestion

    @property
    def is_stale(self) -> bool:
        """Whether the ingestion has another place by now, or needs none."""
        return self.epoch != self.ingestion.queue_epoch or not self.ingestion.is_queued


class ReadyQueue:
    """What could be started, used by whoever holds the engine's lock.

    An entry is never searched for: one that has become stale is dropped when it
    comes to the front, or with all others once most of them are stale.
    """

    def __init__(self) -> None:
        self._queues: dict[Priority, queue.PriorityQueue[Entry]] = {
            priority: queue.PriorityQueue() for priority in Priority
        }

    def put(self, ingestion: Ingestion) -> None:
        """Give an ingestion a new place in its class; an older one of its is stale from now on."""
        ingestion.queue_epoch += 1
        ingestion.is_queued = True
        entry = Entry(ingestion.sequence, ingestion.queue_epoch, ingestion)
        self._queues[ingestion.priority].put(entry)

    def drop_stale(self, priority: Priority, live: int) -> None:
        """Drop the stale entries of a class if they are more than the `live` ones.

        Each of them keeps an ingestion, and what is at the front may stand there for days.
        """
        waiting = self._queues[priority]
        if waiting.qsize() > 2 * live + _FEW:
            self._queues[priority] = queue.PriorityQueue()
            for entry in sorted(entry for entry in waiting.queue if not entry.is_stale):
                self._queues[priority].put(entry)

    def __len__(self) -> int:
        return sum(waiting.qsize() for waiting in self._queues.values())

    def heads(self) -> list[Ingestion]:
        """Return the first of each class that has one, most urgent class first."""
        return [head for priority in self._queues if (head := self._head(priority)) is not None]

    def get(self, priority: Priority) -> Ingestion:
        """Remove and return the first of a class, which has one."""
        self._head(priority)
        return self._queues[priority].get_nowait().ingestion

    def _head(self, priority: Priority) -> Ingestion | None:
        waiting = self._queues[priority]
        entries = waiting.queue
        while entries and entries[0].is_stale:
            waiting.get_nowait()
        return entries[0].ingestion if entries else None
