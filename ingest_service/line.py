"""The queue of what waits: `queue.PriorityQueue` with one entry an ingestion."""

import math
import queue
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A place in the line: class first, then order of arrival.

    Ties are broken by a counter; under a frozen clock all times are equal.
    """

    priority: int
    sequence: int
    ingestion_id: str = field(compare=False)
    #: Monotonic instant at which it was put for the first time.
    put_at: float = field(compare=False)


class Line(queue.PriorityQueue[Entry]):
    """A priority queue that can be looked at before an entry is taken."""

    #: Since when it has not been empty (monotonic).
    filled_at: float = -math.inf

    def head(self) -> Entry | None:
        """Return the entry that `get` would take, None when there is none."""
        with self.mutex:
            return self.queue[0] if self.queue else None

    def _put(self, item: Entry) -> None:
        # An ingestion that is put back keeps its first time, so what follows
        # its batches does not settle again.
        if not self._qsize():
            self.filled_at = item.put_at
        super()._put(item)
