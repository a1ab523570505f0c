"""A SQLite file: one thread at a time writes, what is answered is on the disk.

WAL with `synchronous=FULL`, so that a commit survives a power cut once it has
returned; what has gathered while somebody wrote shares the next commit. The
SQLite is the one that apsw brings, because versions before 3.51.3 could corrupt
a WAL database when it was reset at the wrong moment.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import apsw

from ingest_service import logs
from ingest_service.domain.rollup import COMMIT, GROUP
from ingest_service.engines.embedded.journals.changes import Statement
from ingest_service.engines.embedded.journals.committer import Committer
from ingest_service.engines.embedded.journals.connections import (
    close_quietly,
    connect,
    transaction,
)
from ingest_service.engines.embedded.journals.files import unusable
from ingest_service.engines.embedded.journals.journal_file import JournalFile
from ingest_service.engines.embedded.journals.statements import SQL
from ingest_service.errors import StorageUnavailable

T = TypeVar("T")

#: Most records that share one commit, so that the first does not wait for all.
_GROUP = 128
#: Pages that are given back in one step: a few milliseconds.
_PAGES_PER_STEP = 128
#: Bytes of outcomes that may stay with their statement until the next ones come.
_MOST_KEPT = 2**20
#: Free pages that are kept, because they will be needed again: 1 MiB.
_KEPT_FREE = 256


class Tail(Protocol):
    """What is written last in every transaction, by the thread that writes."""

    def write(self, db: apsw.Connection) -> None:
        """Write it."""
        ...

    def ended(self, *, durable: bool) -> None:
        """Hear what became of the transaction."""
        ...


class _Record(NamedTuple):
    """Something to be written."""

    write: Callable[[apsw.Connection], Any]
    #: Called with what `write` returned, once it is durable and before anybody hears of it.
    then: Callable[[Any], object] | None = None


class _Order(NamedTuple):
    """A record that another thread writes, and who waits for it."""

    record: _Record
    done: "Future[Any]"


class Database:
    """Raises `JournalUnusable` if the file cannot be opened, `StorageUnavailable` later on."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        monotonic: Callable[[], float],
        tail: Tail,
        vfs: str | None = None,
    ) -> None:
        self._vfs = vfs
        self._tail = tail
        self._monotonic = monotonic
        #: How long commits took, and how many changes shared them, see `rollup.COMMIT`.
        self.commits: dict[str, int] = {}
        self._file = JournalFile(path)
        try:
            self._committer = Committer(self._file, monotonic, vfs)
        except BaseException as error:
            self._file.close()
            if isinstance(error, apsw.Error):
                raise unusable(self._file.path, error) from error
            raise
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        #: Held by the thread that writes, until what it has written is visible.
        self._writing = threading.Lock()
        #: Whether that of the journal has orders in hand and waits: nobody overtakes it.
        self._is_next = False
        #: Whether pages were given back that the file still has.
        self._shrinking = False
        self._closing = threading.Lock()
        self._closed = False
        self._reading = threading.Lock()
        self._reader: apsw.Connection | None = None
        self._thread = threading.Thread(target=self._write_all, name="journal", daemon=True)
        self._thread.start()

    @property
    def folder(self) -> Path:
        """Where the file is."""
        return self._file.path.parent

    def file_bytes(self) -> dict[str, int]:
        """Return how large the file is, and what was not moved into it yet."""
        path = self._file.path
        sizes = {"journal": path, "wal": path.with_name(path.name + "-wal")}
        return {what: _size(file) for what, file in sizes.items()}

    def once(self, read: Callable[[apsw.Connection], T]) -> T:
        """Return what `read` reads while the service starts; raise `JournalUnusable`."""
        try:
            with self._reading:
                return read(self._connection_for_reading())
        except apsw.Error as error:
            raise unusable(self._file.path, error) from error

    def read(self, read: Callable[[apsw.Connection], T]) -> T:
        """Return what `read` reads, of one moment however many statements it takes."""
        with self._reading:
            try:
                db = self._connection_for_reading()
                with transaction(db, "BEGIN"):
                    return read(db)
            except apsw.Error as error:
                close_quietly(self._reader)
                self._reader = None
                raise StorageUnavailable("The journal cannot be read.") from error

    def await_visible(self) -> None:
        """Block until what could be read just now is visible to everybody else as well."""
        with self._writing:
            pass

    def run(self, statements: Sequence[Statement]) -> None:
        """Write by `statements`, all or nothing."""
        self.write_now(lambda db: execute(db, statements))

    def write_now(self, write: Callable[[apsw.Connection], T]) -> T:
        """Do what `write` does, and return its result once it is durable.

        In this thread if nobody else has something to write just now: to hand it over and to
        hear of it takes as long as all of its statements.
        """
        is_turn = not self._is_next and self._orders.empty()
        if not is_turn or not self._writing.acquire(blocking=False):
            return self.write(write).result()
        try:
            if self._closed:
                raise StorageUnavailable("The journal is closed.")
            (result,) = self._commit([_Record(write)])
        finally:
            self._writing.release()
        try:
            if isinstance(result, Exception):
                raise result
            return cast(T, result)
        finally:
            # It holds this frame: together they would stay, see `let_go`.
            del result

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
                self._orders.put(_Order(_Record(write, then), done))
        return done

    def shrink(self) -> int:
        """Give back some space that is free, if nobody has anything to write; return how much.

        In pages; 0 if that is all, or if the file was begun by a version that could not.
        """
        ((free, can_shrink),) = self.read(lambda db: list(db.execute(SQL["free_space"])))
        if not can_shrink or free <= _KEPT_FREE or not self._orders.empty():
            return 0
        self.write_now(self._give_back)
        return _PAGES_PER_STEP

    def _give_back(self, db: apsw.Connection) -> None:
        db.execute(f"PRAGMA incremental_vacuum({_PAGES_PER_STEP})").fetchall()
        self._shrinking = True

    def _write_all(self) -> None:
        """Commit whatever has gathered, again and again, until told to end."""
        while self._write_group():
            # Each in a call of its own, so that nothing of it is kept until there is another.
            pass

    def _write_group(self) -> bool:
        group = [self._orders.get()]
        self._is_next = True
        with self._writing:
            self._is_next = False
            while len(group) < _GROUP and not self._orders.empty():
                group.append(self._orders.get())
            orders = [order for order in group if order is not None]
            results = self._commit([order.record for order in orders])
        for order, result in zip(orders, results, strict=True):
            if isinstance(result, Exception):
                order.done.set_exception(result)
            else:
                order.done.set_result(result)
        return None not in group

    def _commit(self, records: Sequence[_Record]) -> list[Any]:
        """Write all `records` in one commit and make them visible; return results or refusals."""
        if not records:
            return []
        began = self._monotonic()
        writes = [record.write for record in records]
        *results, last = self._committer.commit([*writes, self._tail.write])
        COMMIT.count(self.commits, self._monotonic() - began)
        GROUP.count(self.commits, len(records))
        self._tail.ended(durable=last is None)
        results = [_publish(*pair) for pair in zip(records, results, strict=True)]
        if self._shrinking:
            # The file itself gets smaller when the WAL is moved into it. Whoever shares this
            # commit waits for that.
            self._committer.checkpoint()
            self._shrinking = False
        return results

    def _connection_for_reading(self) -> apsw.Connection:
        if self._reader is None:
            self._reader = connect(self._file.path, self._vfs)
            self._reader.execute("PRAGMA query_only = ON")
        return self._reader

    def close(self) -> None:
        """Write what is left and let others have the file."""
        with self._closing:
            self._closed = True
            self._orders.put(None)
        self._thread.join()
        with self._reading:
            close_quietly(self._reader)
            self._reader = None
        with self._writing:
            try:
                self._committer.settle_doubts()
            finally:
                self._committer.close()
                self._file.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        # It is not there.
        return 0


def execute(db: apsw.Connection, statements: Iterable[Statement]) -> None:
    """Run `statements`, which return nothing."""
    for statement in statements:
        # The cursor must be gone before the next thread writes: one that is dropped while
        # the connection is in use stays in a list of the connection for ever.
        # One that is kept for the next time keeps its values until then, as large as they are.
        is_kept = len(statement.values.get("outcomes", b"")) <= _MOST_KEPT
        db.execute(SQL[statement.name], statement.values, can_cache=is_kept)


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
