"""What somebody, or something, has done to the queue."""

from typing import Any

from psycopg.types.json import Jsonb

from ingest_service.engines import MarkKind
from ingest_service.engines.postgres.database import Transaction


def add_mark(tx: Transaction, kind: MarkKind, before: Any = None, after: Any = None) -> None:
    """Remember a change; `before` and `after` are anything that JSON can say."""
    tx.run("add_mark", kind=kind.value, before=Jsonb(before), after=Jsonb(after))
