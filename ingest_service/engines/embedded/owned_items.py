"""What waits of each API key: how many items, and which of them go first."""

from collections import Counter

from ingest_service.domain.model import Priority
from ingest_service.engines.embedded.order_index import OrderIndex

_Lines = dict[Priority, OrderIndex[None]]


class OwnedItems:
    """Running sums by the name of the key; not locked, its owner is.

    Of what came without a key nothing is noted, and it costs nothing.
    """

    def __init__(self) -> None:
        #: Items of requests that are being recorded.
        self._reserved: Counter[str] = Counter()
        self._lines: dict[str, _Lines] = {}

    def waiting(self, owner: str) -> int:
        """Return how many items of a key wait, those being recorded included."""
        return self._reserved[owner] + self.ready(owner)

    def ready(self, owner: str) -> int:
        """Return how many of them are on record."""
        return sum([line.items for line in self._lines.get(owner, {}).values()])

    def reserve(self, owner: str | None, items: int) -> None:
        """Count items that are being recorded; a negative number takes them back."""
        if owner is not None:
            self._reserved[owner] += items
            if not self._reserved[owner]:
                del self._reserved[owner]

    def put(self, owner: str | None, priority: Priority, sequence: int, items: int) -> None:
        """Let so many items of an ingestion wait in a class."""
        if owner is None:
            return
        if not items:
            self.remove(owner, priority, sequence)
            return
        lines = self._lines.get(owner)
        if lines is None:
            lines = self._lines[owner] = {each: OrderIndex() for each in Priority}
        lines[priority].put(sequence, None, batches=0, items=items, slots=0)

    def remove(self, owner: str | None, priority: Priority, sequence: int) -> None:
        """Let none of its items wait in a class."""
        lines = None if owner is None else self._lines.get(owner)
        if owner is None or lines is None:
            return
        lines[priority].remove(sequence)
        if not any(map(len, lines.values())):
            del self._lines[owner]

    def nth(self, owner: str, number: int) -> tuple[Priority, int, int]:
        """Return where item `number` of those on record is, from 1, most urgent class first.

        The class, the sequence of its ingestion, and which item of that it is.
        """
        lines = iter(self._lines[owner].items())
        priority, line = next(lines)
        while number > line.items:
            number -= line.items
            priority, line = next(lines)
        return priority, *line.nth_item(number)
