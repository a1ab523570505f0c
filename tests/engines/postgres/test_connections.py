"""What goes wrong between this process and the server is trouble that passes, never an outcome."""

import select
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest

from ingest_service.engines.postgres.database import Database, _first_error
from ingest_service.errors import StorageUnavailable
from tests.uncollected import alive, uncollected


@pytest.fixture
def connections(database: str) -> Iterator[Database]:
    """Give a pool of one."""
    pool = Database(database, 1)
    yield pool
    pool.close()


def test_a_transaction_in_which_this_process_was_too_slow_is_tried_again(
    connections: Database,
) -> None:
    """The server ends it, so that its locks hold up nobody; a batch would lose its outcome."""
    with pytest.raises(StorageUnavailable):
        _be_slow(connections)
    with connections.transaction() as tx:
        tx.connection.execute("SELECT 1")


def test_what_an_aborted_pipeline_was_about_is_let_go() -> None:
    class Content:
        """What a transaction is about."""

    def run() -> None:
        content = Content()
        # What `pytest.raises` has seen it would keep.
        with suppress(ZeroDivisionError), _first_error():
            try:
                _ = 1 / (content is None)
            except ZeroDivisionError:
                raise psycopg.errors.PipelineAborted  # noqa: B904 - as the driver does

    with uncollected():
        run()
        assert alive(Content) == []


def _be_slow(connections: Database) -> None:
    with connections.transaction() as tx:
        tx.connection.execute("SELECT 1")
        assert select.select([tx.connection.fileno()], [], [], 30)[0]
        tx.connection.execute("SELECT 1")


@pytest.mark.parametrize("kind", ["pipeline", "reading", "hasty"])
def test_no_server_waits_for_this_process_between_the_statements_of_a_pipeline(
    database: str, connections: Database, kind: str
) -> None:
    """It would end the transaction of a process that is too busy to send the next one."""
    state = "SELECT state FROM pg_stat_activity WHERE pid = %s"
    with psycopg.connect(database, autocommit=True) as observer:
        with getattr(connections, kind)() as tx:
            server = tx.connection.info.backend_pid
            states = [observer.execute(state, [server]).fetchone()]
            tx.row("time")
            states.append(observer.execute(state, [server]).fetchone())
        assert ("idle in transaction",) not in states
        assert observer.execute(state, [server]).fetchone() == ("idle",)


def test_what_was_wrong_is_told_and_not_what_followed_from_it(connections: Database) -> None:
    """The answers to one pipeline come in one piece or in several, as it happens."""
    with pytest.raises(psycopg.errors.DivisionByZero):
        _be_wrong(connections)


def _be_wrong(connections: Database) -> None:
    with connections.pipeline() as tx:
        tx.connection.execute("SELECT 1 / 0")
        # The error is there before the rest is sent.
        assert select.select([tx.connection.fileno()], [], [], 30)[0]
