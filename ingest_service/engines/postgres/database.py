"""Connections, and transactions that speak in named statements."""

import logging
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg import conninfo as conninfos
from psycopg import sql
from psycopg.rows import namedtuple_row
from psycopg_pool import ConnectionPool, PoolTimeout

from ingest_service.engines.postgres.statements import SQL
from ingest_service.engines.postgres.watchdog import Watchdog
from ingest_service.errors import IngestionNotFound, JournalUnusable, StorageUnavailable

Connection = psycopg.Connection[Any]
#: Most seconds a transaction may do nothing: whoever is frozen in one must not hold the others up.
#: So nothing that grows with a request is done in one.
IDLE_IN_TRANSACTION = 0.3
#: Most seconds to wait for a lock, and for a connection.
LOCK_TIMEOUT = 2.0
CONNECT_TIMEOUT = 5.0

# Whoever has no connection is answered so; the pool says the same in every thread.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


def connection_string(address: str, password_file: str | None) -> str:
    """Return what to connect with; raise `JournalUnusable` if the password cannot be read."""
    values: dict[str, Any] = {
        "application_name": "ingest_service",
        "connect_timeout": int(CONNECT_TIMEOUT),
        # A server that is gone without a word is noticed.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 5_000,
    }
    try:
        if password_file is not None:
            values["password"] = Path(password_file).read_text("utf-8").rstrip("\r\n")
        return conninfos.make_conninfo(address, **(values | _given(address)))
    except (OSError, UnicodeDecodeError) as error:
        raise JournalUnusable(f"{password_file}: the password cannot be read.") from error
    except psycopg.ProgrammingError:
        raise JournalUnusable("INGEST_JOURNAL is no address of a PostgreSQL database.") from None


def _given(address: str) -> dict[str, Any]:
    return dict(conninfos.conninfo_to_dict(address))


def checked_id(ingestion_id: str) -> str:
    """Return an id that the database can look up; raise `IngestionNotFound` for any other text."""
    try:
        if str(UUID(ingestion_id)) == ingestion_id:
            return ingestion_id
    except ValueError:
        pass
    raise IngestionNotFound


#: What is over when it is tried again. The third is what the server does to a transaction in which
#: this process was too slow: on a busy machine that needs no more than a large batch.
_UNUSABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    # What was prepared before a migration has added a column; the next time it is prepared anew.
    psycopg.errors.FeatureNotSupported,
    PoolTimeout,
)


class Transaction:
    """What can be asked and changed, all or nothing."""

    def __init__(self, connection: Connection, now: datetime | None) -> None:
        self.connection = connection
        self._now = now

    def rows(self, statement: str, **values: Any) -> list[Any]:
        """Return the rows of a named statement."""
        return self._execute(statement, values).fetchall()

    def row(self, statement: str, **values: Any) -> Any:
        """Return its first row, None if there is none."""
        return self._execute(statement, values).fetchone()

    def run(self, statement: str, **values: Any) -> int:
        """Return how many rows it has changed; 0 within a pipeline, which does not wait."""
        return self._execute(statement, values).rowcount

    def later(self, statement: str, **values: Any) -> psycopg.Cursor[Any]:
        """Send a statement within a pipeline; what it is asked for waits for it."""
        return self._execute(statement, values)

    def _execute(self, statement: str, values: dict[str, Any]) -> psycopg.Cursor[Any]:
        cursor = self.connection.cursor(row_factory=namedtuple_row)
        cursor.execute(SQL[statement], {"now": self._now, **values}, binary=True)
        return cursor


class Database:
    """A pool, opened at first use: never before a fork.

    `now` tells the time where that is not the database's own, in a test.
    """

    def __init__(self, conninfo: str, size: int, now: Callable[[], datetime] | None = None) -> None:
        self.conninfo = conninfo
        self._now = now
        self._watchdog = Watchdog()
        self._pool = ConnectionPool(
            conninfo,
            min_size=0,
            max_size=size,
            open=False,
            timeout=CONNECT_TIMEOUT,
            configure=_configure,
            check=_check,
            # Transactions are begun in words.
            kwargs={"prepare_threshold": 2, "autocommit": True},
        )

    @property
    def where(self) -> str:
        """The place without any secret, for people."""
        values = _given(self.conninfo)
        return (
            f"{values.get('dbname') or values.get('user')} on {values.get('host') or 'localhost'}"
        )

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Give a transaction that is committed at the end; raise `StorageUnavailable`."""
        with self._connection() as connection, connection.transaction():
            yield Transaction(connection, self._now and self._now())

    @contextmanager
    def hasty(self) -> Iterator[Transaction]:
        """Give a transaction whose loss with the whole server would be made good by a wait."""
        with self.pipeline() as tx:
            tx.connection.execute("SET LOCAL synchronous_commit = off")
            yield tx

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Give a picture of one moment; in a pipeline, so that many questions cost one."""
        with self.pipeline() as tx:
            tx.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield tx

    @contextmanager
    def pipeline(self) -> Iterator[Transaction]:
        """Give a transaction that is sent at once, BEGIN and COMMIT included.

        Not by `connection.transaction()`: that would wait for the server after BEGIN and before
        COMMIT, and a server that waits for a process that is busy ends the transaction.
        """
        with (
            self._connection() as connection,
            _first_error(),
            connection.pipeline(),
            psycopg.Transaction(connection),
        ):
            yield Transaction(connection, self._now and self._now())

    def close(self) -> None:
        """Let go of everything; may be called twice."""
        self._pool.close()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        self._pool.open()
        try:
            with self._pool.connection() as connection:
                self._watchdog.begin(connection)
                try:
                    yield connection
                finally:
                    self._watchdog.end(connection)
        except _UNUSABLE as error:
            raise StorageUnavailable("The database cannot be used now.") from error
        except psycopg.errors.ReadOnlySqlTransaction as error:
            raise StorageUnavailable("The database is a standby.") from error


@contextmanager
def _first_error() -> Iterator[None]:
    """Raise what was wrong, not what followed from it.

    The driver tells the one or the other, as the answers happen to come in.
    """
    try:
        yield
    except psycopg.errors.PipelineAborted as aborted:
        error: BaseException = aborted
        while isinstance(error, psycopg.errors.PipelineAborted) and error.__context__:
            error = error.__context__
        try:
            raise error from None
        finally:
            # It holds this frame: together they would stay, see `let_go`.
            del error


def _configure(connection: Connection) -> None:
    connection.execute(
        sql.SQL("SET idle_in_transaction_session_timeout = {}; SET lock_timeout = {}").format(
            int(IDLE_IN_TRANSACTION * 1000), int(LOCK_TIMEOUT * 1000)
        )
    )


def _check(connection: Connection) -> None:
    """Notice a connection that the server has closed, without asking it."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN | select.POLLHUP)
    if poll.poll(0):
        with suppress(psycopg.Error):
            connection.execute("SELECT 1")
            return
        raise psycopg.OperationalError("the connection was closed")
