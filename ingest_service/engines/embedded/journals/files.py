"""The files of a journal from outside: locked, copied, looked through, put back."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import apsw

from ingest_service.engines.embedded.journals.statements import SQL
from ingest_service.errors import JournalUnusable

T = TypeVar("T")

#: How long a lock of another program is waited for, in milliseconds.
BUSY_TIMEOUT = 1_000


def lock_file(path: Path) -> int:
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


def unusable(path: Path, error: apsw.Error) -> str:
    """Return why the journal at `path` cannot be used, and what to do."""
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
    _use_existing(path, lambda db: copy_into(db, Path(target)))


def copy_into(db: apsw.Connection, target: Path) -> None:
    """Write a compact copy of `db` to `target`, which must not exist; nobody else may read it."""
    # SQLite takes an empty file as it is, with its permissions.
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        db.execute("VACUUM INTO ?", (str(target),)).fetchall()
    except BaseException:
        target.unlink()
        raise


def verify(path: str) -> tuple[int, int]:
    """Read everything in the journal at `path`; return how many ingestions, and unfinished ones.

    Raise `JournalUnusable` if anything is damaged.
    """

    def look(db: apsw.Connection) -> tuple[int, int]:
        findings = [str(text) for (text,) in db.execute("PRAGMA integrity_check(10)")]
        if findings != ["ok"]:
            raise apsw.CorruptError("; ".join(findings))
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
    lock = lock_file(journal.with_name(journal.name + ".lock"))
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
        db.set_busy_timeout(BUSY_TIMEOUT)
        try:
            return use(db)
        finally:
            db.close(True)
    except apsw.Error as error:
        raise JournalUnusable(unusable(Path(path), error)) from error
    except OSError as error:
        raise JournalUnusable(f"{path}: cannot be copied ({error.strerror}).") from error
