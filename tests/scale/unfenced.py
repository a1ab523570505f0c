"""The same slow workers without the fence: what its absence would look like."""

from ingest_service.cli import main
from ingest_service.engines import Slot
from ingest_service.engines.postgres.dispatch import PostgresDispatch
from tests.scale.slow import delay


def _confirm(self: PostgresDispatch, slot: Slot) -> bool:
    delay()
    with self._database.transaction() as tx:
        tx.connection.execute("UPDATE pace SET stage = 3 WHERE start = %s", [slot.number])
        tx.connection.execute("UPDATE start SET confirmed_at = 0 WHERE start = %s", [slot.number])
        tx.run("wake")
    return True


PostgresDispatch.confirm = _confirm  # type: ignore[method-assign]
PostgresDispatch.called = lambda self, slot, ends_at: None  # type: ignore[method-assign]
PostgresDispatch.sent = lambda self, slot, at: None  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
