"""A journal that can be looked over the shoulder."""

from collections.abc import Callable

from ingest_service.engines.embedded.journal import Change
from ingest_service.engines.embedded.journals.memory import MemoryJournal


class WatchedJournal(MemoryJournal):
    """Tells before and after a record is made what is in it; what it is told may raise."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[Change], object] = lambda _: None
        self.after: Callable[[Change], object] = lambda _: None

    def record(self, *changes: Change) -> None:
        """Remember all `changes`."""
        for change in changes:
            self.before(change)
        super().record(*changes)
        for change in changes:
            self.after(change)
