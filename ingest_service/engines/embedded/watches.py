"""Who waits for a change of which ingestion; not locked, its owner is."""

import itertools
from collections.abc import Callable


class Watches:
    """Whom to call, once, at the next change of an ingestion."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._of: dict[str, dict[int, Callable[[], None]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def add(self, ingestion_id: str, on_change: Callable[[], None]) -> Callable[[], None]:
        """Call `on_change` at the next change of an ingestion; return what ends that."""
        number = next(self._numbers)
        self._of.setdefault(ingestion_id, {})[number] = on_change

        def end() -> None:
            watches = self._of.get(ingestion_id, {})
            watches.pop(number, None)
            if not watches:
                self._of.pop(ingestion_id, None)

        return end

    def notify(self, ingestion_id: str) -> None:
        """Call everybody who waits for a change of an ingestion."""
        for on_change in list(self._of.pop(ingestion_id, {}).values()):
            on_change()

    def release(self) -> None:
        """Call everybody."""
        for ingestion_id in list(self._of):
            self.notify(ingestion_id)
