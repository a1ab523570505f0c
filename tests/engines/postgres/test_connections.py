"""What goes wrong between this process and the server is trouble that passes, never an outcome."""

import select

import psycopg
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


@pytest.mark.parametrize("kind", ["pipeline", "reading", "hasty"])
def test_no_server_waits_for_this_process_between_the_statements_of_a_pipeline(
    database: str, kind: str
) -> None:
    """It would end the transaction of a process that is too busy to send the next one."""
    connections = Database(database, 1)
    state = "SELECT state FROM pg_stat_activity WHERE pid = %s"
    try:
        with psycopg.connect(database, autocommit=True) as observer:
            with getattr(connections, kind)() as tx:
                server = tx.connection.info.backend_pid
                states = [observer.execute(state, [server]).fetchone()]
                tx.row("time")
                states.append(observer.execute(state, [server]).fetchone())
            assert ("idle in transaction",) not in states
            assert observer.execute(state, [server]).fetchone() == ("idle",)
    finally:
        connections.close()


def test_what_was_wrong_is_told_and_not_what_followed_from_it(database: str) -> None:
    """The answers to one pipeline come in one piece or in several, as it happens."""
    connections = Database(database, 1)
    try:
        with pytest.raises(psycopg.errors.DivisionByZero):
            _be_wrong(connections)
    finally:
        connections.close()


def _be_wrong(connections: Database) -> None:
    with connections.pipeline() as tx:
        tx.connection.execute("SELECT 1 / 0")
        # The error is there before the rest is sent.
        assert select.select([tx.connection.fileno()], [], [], 30)[0]
