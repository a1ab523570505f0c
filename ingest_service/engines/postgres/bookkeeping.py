"""What is recorded besides the queue."""

import secrets
from typing import Any

from ingest_service.domain.caller import Caller
from ingest_service.engines.audit import MarkKind
from ingest_service.engines.postgres.database import Database
from ingest_service.engines.postgres.marks import add_mark


class PostgresBookkeeping:
    """See `Bookkeeping`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, kind: MarkKind, before: Any, after: Any, caller: Caller) -> None:
        """Record a mark, with nothing beside it."""
        with self._database.transaction() as tx:
            add_mark(tx, kind, before, after, caller)

    def session_secret(self) -> bytes:
        """Let whoever comes first make it; it is the same for all replicas."""
        with self._database.transaction() as tx:
            row = tx.row("session_secret", fresh=secrets.token_hex(32))
        return bytes.fromhex(row.session_secret)
