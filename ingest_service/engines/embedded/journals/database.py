"""A SQLite file: one thread writes, what is answered is on the disk.

WAL with `synchronous=FULL`, so that a commit survives a power cut once it has
returned; what has gathered while the thread wrote shares the next commit. The
SQLite is the one that apsw brings, because versions before 3.51.3 could corrupt
a WAL database when it was reset at the wrong moment.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import apsw

from ingest_service import logs
from ingest_service.engines.embedded.journals.changes import Statement
from ingest_service.engines.embedded.journals.files import BUSY_TIMEOUT, lock_file, unusable
from ingest_service.engines.embedded.journals.schema import check_content, migrate
from ingest_service.engines.embedded.journals.statements import SQL
from ingest_service.errors import IdempotencyMismatch, JournalUnusable, StorageUnavailable

T = TypeVar("T")

#: Most records that share one commit, so that the first does not wait for all.
_GROUP = 128
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    # 16 MiB: a million ids shall not have to wait until they are moved into the file as well.
    "wal_autocheckpoint = 4096",
    # A larger request makes a larger WAL; this gives the space back.
    "journal_size_limit = 16777216",
    "trusted_schema = OFF",
)


class _Record(NamedTuple):
    """Something to be written, and who waits for it."""

    write: Callable[[apsw.Connection], Any]
    done: "Future[Any]"
    #: Called with what `write` returned, once it is durable and before anybody hears of it.
    then: Callable[[Any], object] | None


class Database:
    """Raises `JournalUnusable` if the file cannot be opened, `StorageUnavailable` later on."""

    def __init__(
        self, path: str | os.PathLike[str], monotonic: Callable[[], float], vfs: str | None = None
    ) -> None:
        self.path = Path(path)
        self._vfs = vfs
        self._lock: int | None = lock_file(self.path.with_name(self.path.name + ".lock"))
        self._records: queue.SimpleQueue[_Record | None] = queue.SimpleQueue()
        self._trouble = logs.Trouble("storage", monotonic)
        self._writer: apsw.Connection | None = None
        #: Keeps the index of the WAL alive, which tells how far it counts, whatever others close.
        self._guard: apsw.Connection | None = None
        #: Whether what was refused may be in the WAL all the same.
        self._doubtful = False
        #: Number of the last commit.
        self._number = 0
        self._closing = threading.Lock()
        self._closed = False
        self._reading = threading.Lock()
        self._reader: apsw.Connection | None = None
        #: Held from before a commit until those who made it have made it visible.
        self._publishing = threading.Lock()
        try:
            self._open()
        except apsw.Error as error:
            self._release()
            raise JournalUnusable(unusable(self.path, error)) from error
        except JournalUnusable:
            self._release()
            raise
        self._thread = threading.Thread(target=self._write_all, name="journal", daemon=True)
        self._thread.start()

    def _open(self) -> None:
        self._writer = self._connect()
        migrate(self._writer, self.path)
        check_content(self._writer, self.path)
        self._guard = self._connect()
        self._number = self._last_commit()

    def once(self, read: Callable[[apsw.Connection], T]) -> T:
        """Return what `read` reads while the service starts; raise `JournalUnusable`."""
        try:
            with self._reading:
                return read(self._connection_for_reading())
        except apsw.Error as error:
            raise JournalUnusable(unusable(self.path, error)) from error

    def read(self, read: Callable[[apsw.Connection], T]) -> T:
        """Return what `read` reads, of one moment however many statements it takes."""
        with self._reading:
            try:
                db = self._connection_for_reading()
                with _transaction(db, "BEGIN"):
                    return read(db)
            except apsw.Error as error:
                _close(self._reader)
                self._reader = None
                raise StorageUnavailable("The journal cannot be read.") from error

    def await_visible(self) -> None:
        """Block until what could be read just now is visible to everybody else as well."""
        with self._publishing:
            pass

    def run(self, statements: Sequence[Statement]) -> None:
        """Write by `statements`, all or nothing."""
        self.write(lambda db: execute(db, statements)).result()

    def write(
        self,
        write: Callable[[apsw.Connection], T],
        then: Callable[[T], object] | None = None,
    ) -> "Future[T]":
        """Have `write` called with whatever else is written now; its result is then durable.

        It is all or nothing: `StorageUnavailable` means nothing. `then` is called before
        any result of the same commit can be had.
        """
        done: Future[T] = Future()
        # Nobody can take it back any more.
        done.set_running_or_notify_cancel()
        with self._closing:
            if self._closed:
                done.set_exception(StorageUnavailable("The journal is closed."))
            else:
                self._records.put(_Record(write, done, then))
        return done

    def _write_all(self) -> None:
        """Commit whatever has gathered, again and again, until told to end."""
        ended = False
        while not ended:
            group = [self._records.get()]
            while len(group) < _GROUP and not self._records.empty():
                group.append(self._records.get())
            ended = None in group
            records = [record for record in group if record is not None]
            if records or (ended and self._doubtful):
                self._commit(records)

    def _commit(self, records: Sequence[_Record]) -> None:
        """Write all `records` in one transaction: either every one is on the disk, or none."""
        with self._publishing:
            try:
                results = self._write_group(records)
            except Exception as error:  # noqa: BLE001 - if the thread dies, everybody waits for ever
                self._fail(error)
                results = [StorageUnavailable("The journal cannot be written.")] * len(records)
            else:
                results = [_publish(*pair) for pair in zip(records, results, strict=True)]
        for record, result in zip(records, results, strict=True):
            if isinstance(result, Exception):
                record.done.set_exception(result)
            else:
                record.done.set_result(result)

    def _write_group(self, records: Sequence[_Record]) -> list[Any]:
        db = self._connection_for_writing()
        self._take_back(db)
        if not records:
            return []
        db.execute("BEGIN IMMEDIATE")
        number = self._number_commit(db)
        results = [_attempt(record, db) for record in records]
        self._doubtful = True
        try:
            db.execute("COMMIT")
        except apsw.Error as error:
            if self._last_commit() != number:
                raise
            # It was only what follows a commit: moving the WAL into the file.
            self._disconnect(error)
        else:
            self._trouble.over()
        self._doubtful = False
        return results

    def _fail(self, error: Exception) -> None:
        """Let go of the connection, and of what was to be written.

        At once, not only before the next commit: nobody knows how long the process lives.
        """
        self._disconnect(error)
        try:
            self._take_back(self._connection_for_writing())
        except apsw.Error as also:
            self._disconnect(also)

    def _disconnect(self, error: Exception) -> None:
        # After an error nothing is known about what the connection believes to
        # have written; a new one reads the file.
        self._trouble.occurred(str(error), None if isinstance(error, apsw.Error) else error)
        _close(self._writer)
        self._writer = None

    def _take_back(self, db: apsw.Connection) -> None:
        """Make sure that what was refused is not there, before anything else is written.

        A commit whose sync fails is in the WAL all the same, behind the end that its
        index knows, and whoever opens the file after a crash would find it. What is
        written next takes its place, and what follows that in the WAL is void.
        """
        if self._doubtful:
            with _transaction(db, "BEGIN IMMEDIATE"):
                self._number_commit(db)
            self._doubtful = False

    def _number_commit(self, db: apsw.Connection) -> int:
        """Let the transaction that has begun bear the next number; return it."""
        self._number += 1
        db.execute(SQL["number_commit"], {"number": self._number})
        return self._number

    def _last_commit(self) -> int:
        """Return the number of the last commit that counts, whatever was said about it."""
        assert self._guard is not None  # noqa: S101 - it is there while anything is written
        return cast(int, self._guard.execute(SQL["last_commit"]).fetchall()[0][0])

    def _connection_for_writing(self) -> apsw.Connection:
        if self._writer is None:
            self._writer = self._connect()
            self._number = self._last_commit()
        return self._writer

    def _connection_for_reading(self) -> apsw.Connection:
        if self._reader is None:
            self._reader = self._connect()
            self._reader.execute("PRAGMA query_only = ON")
        return self._reader

    def _connect(self) -> apsw.Connection:
        db = apsw.Connection(str(self.path), vfs=self._vfs)
        db.set_busy_timeout(BUSY_TIMEOUT)
        for pragma in _PRAGMAS:
            db.execute(f"PRAGMA {pragma}").fetchall()
        return db

    def close(self) -> None:
        """Write what is left; the last connection moves the WAL into the file."""
        with self._closing:
            self._closed = True
            self._records.put(None)
        self._thread.join()
        self._release()

    def _release(self) -> None:
        with self._reading:
            for db in (self._reader, self._writer, self._guard):
                _close(db)
            self._reader = self._writer = self._guard = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def execute(db: apsw.Connection, statements: Iterable[Statement]) -> None:
    """Run `statements`, which return nothing."""
    for statement in statements:
        # The cursor must not leave this thread: one that is dropped while the
        # connection is in use stays in a list of the connection for ever.
        db.execute(SQL[statement.name], statement.values)


@contextmanager
def _transaction(db: apsw.Connection, begin: str) -> Iterator[None]:
    db.execute(begin)
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _attempt(record: _Record, db: apsw.Connection) -> Any:
    """Return what the record's writer returns, or the refusal it raises."""
    try:
        return record.write(db)
    except IdempotencyMismatch as refusal:
        return refusal


def _publish(record: _Record, result: Any) -> Any:
    """Return `result` after making it visible, or why that could not be done."""
    if record.then is None or isinstance(result, Exception):
        return result
    try:
        record.then(result)
    except Exception as error:  # noqa: BLE001 - a bug of one is not to stop the others
        logs.event("not_visible", level=logging.ERROR, exc_info=error)
        return error
    return result


def _close(db: apsw.Connection | None) -> None:
    """Close `db`, whatever the disk says to that: what was committed is safe without it."""
    try:
        if db is not None:
            db.close(True)
    except apsw.Error as error:
        logs.event("storage_close_failed", level=logging.WARNING, reason=str(error))
