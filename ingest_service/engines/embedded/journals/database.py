"""A SQLite file: one thread writes, what is answered is on the disk.

WAL with `synchronous=FULL`, so that a commit survives a power cut once it has
returned; what has gathered while the thread wrote shares the next commit. The
SQLite is the one that apsw brings, because versions before 3.51.3 could corrupt
a WAL database when it was reset at the wrong moment.
"""

import fcntl
import logging
import os
import queue
import re
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import apsw

from ingest_service import logs
from ingest_service.engines.embedded.journals.rows import Row
from ingest_service.errors import IdempotencyMismatch, JournalUnusable, StorageUnavailable

T = TypeVar("T")

#: How long a lock of another program is waited for, in milliseconds.
_BUSY_TIMEOUT = 1_000
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


def _statements(name: str) -> dict[str, str]:
    """Return the statements of a `.sql` file by the names in their headers."""
    text = files(__package__).joinpath(name).read_text("utf-8")
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


SQL = _statements("queries.sql")
_MIGRATIONS = _statements("migrations.sql")
VERSION = max(map(int, _MIGRATIONS))


class _Record(NamedTuple):
    """Something to be written, and who waits for it."""

    write: Callable[[apsw.Connection], Any]
    done: "Future[Any]"
    #: Takes back what `write` wrote, if that must not stay when its commit fails.
    undo: Callable[[apsw.Connection], Any] | None


class Database:
    """Raises `JournalUnusable` if the file cannot be opened, `StorageUnavailable` later on."""

    def __init__(self, path: str | os.PathLike[str], vfs: str | None = None) -> None:
        self.path = Path(path)
        self._vfs = vfs
        self._lock: int | None = _lock_file(self.path.with_name(self.path.name + ".lock"))
        self._records: queue.SimpleQueue[_Record | None] = queue.SimpleQueue()
        self._writer: apsw.Connection | None = None
        #: Takes back what was refused and may have reached the disk all the same.
        self._doubtful: list[Callable[[apsw.Connection], Any]] = []
        self._closing = threading.Lock()
        self._closed = False
        self._reading = threading.Lock()
        self._reader: apsw.Connection | None = None
        try:
            self._writer = self._connect()
            _migrate(self._writer, self.path)
            _check_content(self._writer, self.path)
        except apsw.Error as error:
            self._release()
            raise JournalUnusable(_unusable(self.path, error)) from error
        except JournalUnusable:
            self._release()
            raise
        self._thread = threading.Thread(target=self._write_all, name="journal", daemon=True)
        self._thread.start()

    def once(self, read: Callable[[apsw.Connection], T]) -> T:
        """Return what `read` reads while the service starts; raise `JournalUnusable`."""
        try:
            with self._reading:
                return read(self._connection_for_reading())
        except apsw.Error as error:
            raise JournalUnusable(_unusable(self.path, error)) from error

    def run(self, statement: str, values: Mapping[str, Any] | None = None) -> None:
        """Write by a single statement."""

        def write(db: apsw.Connection) -> None:
            # The cursor must not leave this thread: one that is dropped while the
            # connection is in use stays in a list of the connection for ever.
            db.execute(SQL[statement], values)

        self.write(write)

    def write(
        self,
        write: Callable[[apsw.Connection], T],
        undo: Callable[[apsw.Connection], Any] | None = None,
    ) -> T:
        done: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise StorageUnavailable("The journal is closed.")
            self._records.put(_Record(write, done, undo))
        return done.result()

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
        results: list[Any] = []
        try:
            if self._writer is None:
                self._writer = self._connect()
            self._take_back(self._writer)
            self._writer.execute("BEGIN IMMEDIATE")
            results = [_attempt(record, self._writer) for record in records]
            self._writer.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - if the thread dies, everybody waits for ever
            unexpected = not isinstance(error, apsw.Error)
            logs.event(
                "storage_failed", level=logging.ERROR, exc_info=unexpected, reason=str(error)
            )
            self._disconnect()
            if results:
                self._doubtful = [record.undo for record in records if record.undo]
            results = [StorageUnavailable("The journal cannot be written.")] * len(records)
        for record, result in zip(records, results, strict=True):
            if isinstance(result, Exception):
                record.done.set_exception(result)
            else:
                record.done.set_result(result)

    def _take_back(self, db: apsw.Connection) -> None:
        """Make sure that what was refused is not there, before anything else is written.

        A commit whose sync fails may be in the WAL all the same, and whoever
        opens the file anew would find it.
        """
        if self._doubtful:
            db.execute("BEGIN IMMEDIATE")
            for undo in self._doubtful:
                undo(db)
            db.execute("COMMIT")
            self._doubtful = []

    def read(self, statement: str, **values: Any) -> list[Row]:
        with self._reading:
            try:
                db = self._connection_for_reading()
                return list(db.execute(SQL[statement], values))
            except apsw.Error as error:
                _close(self._reader)
                self._reader = None
                raise StorageUnavailable("The journal cannot be read.") from error

    def _connection_for_reading(self) -> apsw.Connection:
        if self._reader is None:
            self._reader = self._connect()
            self._reader.execute("PRAGMA query_only = ON")
        return self._reader

    def _connect(self) -> apsw.Connection:
        db = apsw.Connection(str(self.path), vfs=self._vfs)
        db.set_busy_timeout(_BUSY_TIMEOUT)
        for pragma in _PRAGMAS:
            db.execute(f"PRAGMA {pragma}").fetchall()
        return db

    def _disconnect(self) -> None:
        # After an error nothing is known about what the connection believes to
        # have written; a new one reads the file.
        _close(self._writer)
        self._writer = None

    def close(self) -> None:
        """Write what is left; the last connection moves the WAL into the file."""
        with self._closing:
            self._closed = True
            self._records.put(None)
        self._thread.join()
        self._release()

    def _release(self) -> None:
        with self._reading:
            _close(self._reader)
            self._reader = None
        self._disconnect()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _close(db: apsw.Connection | None) -> None:
    """Close `db`, whatever the disk says to that: what was committed is safe without it."""
    try:
        if db is not None:
            db.close(True)
    except apsw.Error as error:
        logs.event("storage_close_failed", level=logging.WARNING, reason=str(error))


def _attempt(record: _Record, db: apsw.Connection) -> Any:
    """Return what the record's writer returns, or the refusal it raises."""
    try:
        return record.write(db)
    except IdempotencyMismatch as refusal:
        return refusal


def _lock_file(path: Path) -> int:
    """Hold the lock of `path` as long as the process lives, however it ends."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalUnusable(
            f"{path}: {error.strerror}; is the folder there and writable?"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise JournalUnusable(
            f"{path}: another process uses this journal; stop it, or give this one a journal of "
            "its own with INGEST_JOURNAL."
        ) from error
    return descriptor


def _migrate(db: apsw.Connection, path: Path) -> None:
    (row,) = db.execute("PRAGMA user_version").fetchall()
    found = cast(int, row[0])
    if found > VERSION:
        raise JournalUnusable(
            f"{path}: written by a newer version (format {found}, this one knows {VERSION}); "
            "upgrade the service or use another file."
        )
    for version in range(found + 1, VERSION + 1):
        with db:
            db.execute(_MIGRATIONS[str(version)]).fetchall()
            db.execute(f"PRAGMA user_version = {version}")


def _check_content(db: apsw.Connection, path: Path) -> None:
    """Look for damage, as far as that does not delay the start."""
    if path.exists() and path.stat().st_size > 64 * 2**20:
        return
    found = [text for (text,) in db.execute("PRAGMA quick_check(1)")]
    if found != ["ok"]:
        raise apsw.CorruptError(found[0])


def _unusable(path: Path, error: apsw.Error) -> str:
    reason = " ".join(str(error).split())
    if isinstance(error, apsw.NotADBError | apsw.CorruptError):
        return (
            f"{path}: damaged, or not a journal ({reason}); put a backup in its place, "
            "or move it away to begin with an empty one."
        )
    return f"{path}: cannot be opened ({reason}); is the folder there and writable?"


def back_up(path: str, target: str) -> None:
    """Write a compact copy of the journal at `path` to the new file `target`.

    Works while a service uses the journal: it is one consistent read.
    """
    if Path(target).exists():
        raise JournalUnusable(f"{target}: exists already; choose another name.")
    _use_existing(path, lambda db: db.execute("VACUUM INTO ?", (target,)).fetchall())


def verify(path: str) -> tuple[int, int]:
    """Read everything in the journal at `path`; return how many ingestions, and unfinished ones.

    Raise `JournalUnusable` if anything is damaged.
    """

    def look(db: apsw.Connection) -> tuple[int, int]:
        found = [str(text) for (text,) in db.execute("PRAGMA integrity_check(10)")]
        if found != ["ok"]:
            raise apsw.CorruptError("; ".join(found))
        (counts,) = db.execute(SQL["count"]).fetchall()
        return cast(tuple[int, int], counts)

    return _use_existing(path, look)


def restore(path: str, source: str) -> None:
    """Put the backup `source` in the place of the journal at `path`; refuse while it is in use.

    What the old one had not moved into its file yet goes with it: it would be
    taken for a part of the new one.
    """
    verify(source)
    journal = Path(path)
    lock = _lock_file(journal.with_name(journal.name + ".lock"))
    try:
        fresh = journal.with_name(journal.name + ".new")
        shutil.copyfile(source, fresh)
        with fresh.open("rb") as copied:
            os.fsync(copied.fileno())
        for ending in ("-wal", "-shm"):
            journal.with_name(journal.name + ending).unlink(missing_ok=True)
        fresh.replace(journal)
    except OSError as error:
        raise JournalUnusable(f"{path}: cannot be replaced ({error.strerror}).") from error
    finally:
        os.close(lock)


def _use_existing(path: str, use: Callable[[apsw.Connection], T]) -> T:
    try:
        db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
        db.set_busy_timeout(_BUSY_TIMEOUT)
        try:
            return use(db)
        finally:
            db.close(True)
    except apsw.Error as error:
        raise JournalUnusable(_unusable(Path(path), error)) from error
