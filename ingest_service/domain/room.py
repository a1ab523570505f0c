"""When there will be room again: what the slots to come take away, as far as one can see ahead."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from ingest_service.domain.runs import Lines, Moment, slots_ahead
from ingest_service.domain.slot_times import SlotTimes
from ingest_service.domain.snapshot import FRONT, PendingRetry

#: Returns how many items of an ingestion wait, by its sequence, and those of each of its batches in
#: the order in which they go; None if it does not count.
Waiting = Callable[[int], tuple[int, Iterator[int]] | None]


class Lacking(NamedTuple):
    """What has to go before there is room."""

    items: int
    ingestions: int
    #: After how many slots that is gone, about.
    slots: int


def opens_in(
    moment: Moment,
    front: Lines,
    retries: Sequence[PendingRetry],
    waiting: Waiting,
    lacking: Lacking,
) -> float:
    """Return in how many seconds there will be room; inf if nobody knows.

    `front` is the first `FRONT` of each class, so what the first `FRONT` slots serve is known;
    beyond, it is when the last of about so many slots opens.
    """
    if math.isinf(moment.model.opens_at):
        return math.inf
    at = None
    if lacking.slots <= FRONT:
        at = _seen_ahead(moment, front, retries, waiting, lacking)
    if at is None:
        at = SlotTimes(moment.model, moment.now).at(max(0, lacking.slots - 1))
    return max(0.0, at - moment.now)


def _seen_ahead(
    moment: Moment,
    front: Lines,
    retries: Sequence[PendingRetry],
    waiting: Waiting,
    lacking: Lacking,
) -> float | None:
    """Return when that is gone, by each batch that the next slots serve; None if not by then."""
    items, ingestions, _ = lacking
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
