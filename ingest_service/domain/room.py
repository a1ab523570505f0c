"""When there will be room again: what the slots to come take away, as far as one can see ahead."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from ingest_service.domain.runs import Lines, Moment, slots_ahead
from ingest_service.domain.snapshot import FRONT, PendingRetry

#: Returns how many items of an ingestion wait, by its sequence, and those of each of its batches in
#: the order in which they go; None if it does not count.
Waiting = Callable[[int], tuple[int, Iterator[int]] | None]


def room_at(
    moment: Moment,
    front: Lines,
    retries: Sequence[PendingRetry],
    waiting: Waiting,
    *,
    items: int,
    ingestions: int = 0,
) -> float | None:
    """Return when so many items and ingestions will be gone; None if that is too far ahead.

    `front` is the first `FRONT` of each class, so what the first `FRONT` slots serve is known.
    """
    left: dict[int, tuple[int, Iterator[int]] | None] = {}
    for at, entry in islice(slots_ahead(moment, front, retries), FRONT):
        if entry.sequence not in left:
            left[entry.sequence] = waiting(entry.sequence)
        known = left[entry.sequence]
        if known is None:
            continue
        queued, batches = known
        size = next(batches, 0)
        left[entry.sequence] = queued - size, batches
        items -= size
        ingestions -= queued == size
        if items <= 0 and ingestions <= 0:
            return at
    return None
