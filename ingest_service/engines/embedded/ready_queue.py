"""The queue of what waits: `queue.PriorityQueue` with one entry an ingestion."""

import heapq
import math
import queue
from collections.abc import Callable, Sequence

from ingest_service.domain.model import Priority
from ingest_service.domain.schedule import Classes, Entry


class Line(queue.PriorityQueue[Entry]):
    """A priority queue that shows the first of each class, for a policy to choose from.

    Each class is a heap of its own; `get` takes the most urgent one, as in any
    priority queue. An entry is never searched for: one that has become stale is
    dropped when it comes to the front.
    """

    #: Since when it has not been empty (monotonic).
    filled_at: float = -math.inf
    _known: Classes | None = None

    def heads(self) -> list[Entry]:
        """Return the first entry of each class that has one, most urgent class first."""
        with self.mutex:
            return self._heads()

    def take(self, choose: Callable[[Sequence[Entry]], int]) -> Entry | None:
        """Remove and return the one of the heads that `choose` gives the index of, if any.

        In one go, because a better one can join at any time.
        """
        with self.mutex:
            heads = self._heads()
            if not heads:
                return None
            chosen = heads[choose(heads)]
            heapq.heappop(self._heaps[chosen.priority - 1])
            self._known = None
            return chosen

    def _heads(self) -> list[Entry]:
        for heap in self._heaps:
            while heap and heap[0].stale:
                heapq.heappop(heap)
        return [heap[0] for heap in self._heaps if heap]

    def classes(self) -> Classes:
        """Return what waits, class by class, in no order within one.

        Found once and kept until something changes: everybody who asks for a
        status asks for this.
        """
        with self.mutex:
            if self._known is None:
                self._known = tuple(
                    [entry for entry in heap if not entry.stale] for heap in self._heaps
                )
            return self._known

    def changed(self) -> None:
        """Note that an entry may have become stale."""
        with self.mutex:
            self._known = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits; for whoever holds `not_empty`."""
        return not self._qsize()

    def _init(self, maxsize: int) -> None:
        self._heaps: list[list[Entry]] = [[] for _ in Priority]
        self._known = None

    def _qsize(self) -> int:
        return sum(map(len, self._heaps))

    def _put(self, item: Entry) -> None:
        # An ingestion that is put back keeps its first time, so what follows
        # its batches does not settle again.
        if not self._qsize():
            self.filled_at = item.put_at
        self._known = None
        heapq.heappush(self._heaps[item.priority - 1], item)

    def _get(self) -> Entry:
        self._known = None
        return heapq.heappop(next(heap for heap in self._heaps if heap))
