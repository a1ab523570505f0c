"""Sums over what is ready in each class, asked of the database."""

from typing import Any

from ingest_service.domain.model import Priority
from ingest_service.engines.postgres.database import Transaction

#: From here on the sums of a class are those of all of it.
_BEHIND_ALL = 2**62


class DatabaseSums:
    """See `forecast.Sums`; of one moment, as long as the transaction is."""

    def __init__(self, tx: Transaction, depth: Any) -> None:
        self._tx = tx
        self._depth = depth

    def total(self, priority: Priority) -> tuple[int, int]:
        """Look it up in the depth."""
        of_class = priority - 1
        return int(self._depth.ready[of_class]), int(self._depth.batches[of_class])

    def before(self, priority: Priority, sequence: int) -> tuple[int, int]:
        """Add up what is ahead in the class, by the index alone."""
        if sequence >= _BEHIND_ALL:
            return self.total(priority)
        row = self._tx.row("sums_before", priority=int(priority), sequence=sequence)
        return row.ingestions, row.batches

    def batches(self, priority: Priority, sequence: int) -> int:
        """Look it up in the row."""
        row = self._tx.row("left_of", priority=int(priority), sequence=sequence)
        return row.left_ if row else 0

    def ingestions_within(self, priority: Priority, after: int, batches: int) -> int:
        """Count along the line."""
        values = {"priority": int(priority), "after": after, "batches": batches}
        return int(self._tx.row("ingestions_within", **values).number)
