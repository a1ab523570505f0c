"""What goes wrong between this process and the server is trouble that passes, never an outcome."""

import select

import pytest

from ingest_service.engines.postgres.database import Database
from ingest_service.errors import StorageUnavailable


def test_a_transaction_in_which_this_process_was_too_slow_is_tried_again(database: str) -> None:
    """The server ends it, so that its locks hold up nobody; a batch would lose its outcome."""
    connections = Database(database, 1)
    try:
        with pytest.raises(StorageUnavailable):
            _be_slow(connections)
        with connections.transaction() as tx:
            tx.connection.execute("SELECT 1")
    finally:
        connections.close()


def _be_slow(connections: Database) -> None:
    with connections.transaction() as tx:
        tx.connection.execute("SELECT 1")
        assert select.select([tx.connection.fileno()], [], [], 30)[0]
        tx.connection.execute("SELECT 1")


def test_whoever_only_reads_holds_up_nobody_and_has_more_time(database: str) -> None:
    connections = Database(database, 1)
    limit = "SHOW idle_in_transaction_session_timeout"
    try:
        with connections.reading() as tx:
            assert tx.connection.execute(limit).fetchone() == ("10s",)
        with connections.transaction() as tx:
            assert tx.connection.execute(limit).fetchone() == ("300ms",)
    finally:
        connections.close()
