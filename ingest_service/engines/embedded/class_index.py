"""What waits in each class, in the order of arrival: sums over it, and its first entries."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ingest_service.domain.ingestion import Ingestion
from ingest_service.domain.model import Priority
from ingest_service.domain.policy import QueueEntry
from ingest_service.domain.rollup import both
from ingest_service.domain.runs import Lines
from ingest_service.domain.snapshot import FRONT, ClassTotals
from ingest_service.engines.embedded.order_index import OrderIndex


class Waiting(NamedTuple):
    """An ingestion in the index, and since when it has been waiting (monotonic)."""

    ingestion: Ingestion
    since: float

    def entry(self, batches: int) -> QueueEntry:
        ingestion = self.ingestion
        return QueueEntry(
            ingestion.sequence, ingestion.priority, self.since, ingestion.ingestion_id, batches
        )


class ClassIndex:
    """An order index a class; the queue's state is its one writer."""

    def __init__(self) -> None:
        self._by_class: dict[Priority, OrderIndex[Waiting]] = {
            priority: OrderIndex() for priority in Priority
        }
        #: What snapshots show of each class, made anew after a change.
        self._fronts: dict[Priority, tuple[QueueEntry, ...]] = {}
        self._totals: dict[Priority, ClassTotals] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._by_class.values()))

    @property
    def items(self) -> int:
        """Items that wait."""
        return sum([index.items for index in self._by_class.values()])

    @property
    def is_ready(self) -> bool:
        """Whether anything has a batch that can be taken."""
        return any(index.ready for index in self._by_class.values())

    def ready(self, priority: Priority) -> int:
        """Return how many ingestions of a class have a batch that can be taken."""
        return self._by_class[priority].ready

    def totals(self) -> dict[Priority, ClassTotals]:
        """Return what waits in each class; nobody may change it."""
        if self._totals is None:
            self._totals = {priority: _totals(index) for priority, index in self._by_class.items()}
        return self._totals

    def depth(self) -> dict[str, int]:
        """Return how many batches and items wait in each class, see `rollup.both`."""
        depth = {}
        for priority, index in self._by_class.items():
            of_batches, of_items = both("depth", priority)
            depth[of_batches], depth[of_items] = index.batches, index.items
        return depth

    def front(self) -> tuple[tuple[QueueEntry, ...], ...]:
        """Return the first entries of each class."""
        for priority, index in self._by_class.items():
            if priority not in self._fronts:
                first = index.first(FRONT)
                self._fronts[priority] = tuple(waiting.entry(left) for waiting, left in first)
        return tuple(map(self._fronts.__getitem__, self._by_class))

    def lines(self) -> Callable[[], Lines]:
        """Return what tells everything that is ready now; to be called without the lock."""
        copies = [(priority, index.copied()) for priority, index in self._by_class.items()]
        return lambda: [
            # By now it may have another class.
            [waiting.entry(left)._replace(priority=priority) for waiting, left in walk() if left]
            for priority, walk in copies
        ]

    def slots_until_room(self, items: int, ingestions: int) -> int:
        """Return after how many slots so many of the items and ingestions will be gone."""
        slots_for_items = slots_for_ingestions = 0
        for index in self._by_class.values():
            more, items = index.slots_of(items)
            slots_for_items += more
            more, ingestions = index.slots_of_first(ingestions)
            slots_for_ingestions += more
        return max(slots_for_items, slots_for_ingestions)

    def slots_before(self, priority: Priority, sequence: int, items: int) -> int:
        """Return after how many slots the first `items` items of an ingestion are gone."""
        ahead = sum([self._by_class[urgent].slots for urgent in Priority if urgent < priority])
        return ahead + self._by_class[priority].slots_before(sequence, items)

    # Sums over what is ready, see `forecast.Sums`.

    def total(self, priority: Priority) -> tuple[int, int]:
        """Return how many ingestions of a class are ready, and their batches."""
        index = self._by_class[priority]
        return index.ready, index.batches

    def before(self, priority: Priority, sequence: int) -> tuple[int, int]:
        """Return how many ingestions with a smaller sequence are ready, and their batches."""
        return self._by_class[priority].before(sequence)

    def batches(self, priority: Priority, sequence: int) -> int:
        """Return how many batches of one ingestion are ready."""
        return self._by_class[priority].batches_of(sequence)

    def ingestions_within(self, priority: Priority, after: int, batches: int) -> int:
        """Return to how many ingestions the first `batches` batches behind `after` belong."""
        return self._by_class[priority].entries_within(after, batches)

    # --- Changing ---

    def put(self, ingestion: Ingestion, since: float) -> None:
        """Add what waits of an ingestion since then, or change what it counts for."""
        self._note_change(ingestion.priority, ingestion.sequence)
        self._by_class[ingestion.priority].put(
            ingestion.sequence,
            Waiting(ingestion, since),
            batches=ingestion.batches_left,
            items=ingestion.counts.queued,
            slots=_slots(ingestion),
        )

    def remove(self, priority: Priority, sequence: int) -> None:
        """Remove an ingestion from a class if it is there."""
        self._note_change(priority, sequence)
        self._by_class[priority].remove(sequence)

    def fill(self, ingestions: Sequence[Ingestion], since: Sequence[float]) -> None:
        """Do what `put` does for each of which something waits, while there is nothing yet."""
        self._totals = None
        for priority, index in self._by_class.items():
            waiting = [
                Waiting(ingestion, began)
                for ingestion, began in zip(ingestions, since, strict=True)
                if ingestion.priority is priority and ingestion.counts.queued
            ]
            index.fill(
                [one.ingestion.sequence for one in waiting],
                waiting,
                batches=[one.ingestion.batches_left for one in waiting],
                items=[one.ingestion.counts.queued for one in waiting],
                slots=[_slots(one.ingestion) for one in waiting],
            )

    def _note_change(self, priority: Priority, sequence: int) -> None:
        """Have the totals made anew, and the front of a class that an ingestion is or was in."""
        self._totals = None
        front = self._fronts.get(priority, ())
        if len(front) < FRONT or sequence <= front[-1].sequence:
            self._fronts.pop(priority, None)


def _totals(index: OrderIndex[Waiting]) -> ClassTotals:
    oldest = index.oldest()
    oldest_at = oldest.ingestion.submission.created_at if oldest else None
    return ClassTotals(index.batches, index.items, len(index), oldest_at)


def _slots(ingestion: Ingestion) -> int:
    """Return how many batches the items that wait will take."""
    return -(-ingestion.counts.queued // ingestion.submission.batch_size)
