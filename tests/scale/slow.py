"""The service's commands where a worker is slow on its way to a call, now more, now less."""

import random
import time

from ingest_service.cli import main
from ingest_service.engines import Slot
from ingest_service.engines.postgres.dispatch import PostgresDispatch

_confirm = PostgresDispatch.confirm


def delay() -> None:
    """Take up to 60 ms."""
    time.sleep(random.uniform(0.0, 0.06))  # noqa: S311


def _confirm_late(self: PostgresDispatch, slot: Slot) -> bool:
    delay()
    return _confirm(self, slot)


PostgresDispatch.confirm = _confirm_late  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
