"""Connections to a SQLite file, all set up in the same way."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from ingest_service import logs
from ingest_service.engines.embedded.journals.files import BUSY_TIMEOUT

PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    # 16 MiB: a million ids shall not have to wait until they are moved into the file as well.
    "wal_autocheckpoint = 4096",
    # A larger request makes a larger WAL; this gives the space back.
    "journal_size_limit = 16777216",
    "trusted_schema = OFF",
)


def connect(path: Path, vfs: str | None) -> apsw.Connection:
    """Open the file at `path`, which must be there: a lost one is not to be begun anew."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    try:
        db.set_busy_timeout(BUSY_TIMEOUT)
        if not db.pragma("page_count"):
            # Before anything is in it; said again later it would be written again.
            db.execute("PRAGMA auto_vacuum = INCREMENTAL").fetchall()
        for pragma in PRAGMAS:
            db.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        close_quietly(db)
        raise
    return db


@contextmanager
def transaction(db: apsw.Connection, begin: str) -> Iterator[None]:
    """Commit what is done inside, or nothing of it."""
    db.execute(begin)
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def close_quietly(db: apsw.Connection | None) -> None:
    """Close `db`, whatever the disk says to that: what was committed is safe without it."""
    try:
        if db is not None:
            db.close(True)
    except apsw.Error as error:
        logs.event("storage_close_failed", level=logging.WARNING, reason=str(error))
