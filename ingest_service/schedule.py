"""What will be sent when: pure arithmetic on a snapshot of the line, no clock, no lock."""

import math
from collections.abc import Iterable
from typing import NamedTuple


class Waiting(NamedTuple):
    """What an unfinished ingestion still has in the queue; sorts in the order of service."""

    priority: int
    sequence: int
    items: int
    batch_size: int


def slots_until_started(line: Iterable[Waiting], items: int) -> int:
    """Return after how many slots `items` items of `line`, sorted, will have been started."""
    slots = 0
    for each in line:
        if items <= 0:
            break
        slots += math.ceil(min(each.items, items) / each.batch_size)
        items -= each.items
    return slots
