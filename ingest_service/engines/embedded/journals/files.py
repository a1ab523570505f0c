"""The files of a journal from outside: copied, looked through, put back."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, cast

import apsw

from ingest_service.engines.embedded.journals.formats import format_of, refuse_newer
from ingest_service.engines.embedded.journals.journal_file import SIDE_FILES, JournalFile
from ingest_service.engines.embedded.journals.statements import SQL
from ingest_service.errors import JournalDamaged, JournalUnusable

T = TypeVar("T")

#: How long a lock of another program is waited for, in milliseconds.
BUSY_TIMEOUT = 1_000


def unusable(path: Path, error: apsw.Error) -> JournalUnusable:
    """Return why the journal at `path` cannot be used, and what to do."""
    reason = " ".join(str(error).split())
    if isinstance(error, apsw.NotADBError | apsw.CorruptError):
        return JournalDamaged(
            f"{path}: damaged, or not a journal ({reason}); put a backup in its place, "
            "or move it away to begin with an empty one."
        )
    with suppress(OSError):
        if path.is_dir():
            return JournalUnusable(f"{path}: cannot be opened: it is a folder; name a file.")
        if not path.exists():
            return JournalUnusable(
                f"{path}: cannot be opened: there is no such file; name another one."
            )
    return JournalUnusable(
        f"{path}: cannot be opened ({reason}); is the folder there and writable?"
    )


def back_up(path: str, target: str) -> None:
    """Write a compact copy of the journal at `path` to the new file `target`.

    Works while a service uses the journal: it is one consistent read.
    """
    try:
        use_existing(path, lambda db: copy_into(db, Path(target)))
    except FileExistsError as error:
        raise JournalUnusable(f"{target}: exists already; choose another name.") from error
    except OSError as error:
        raise JournalUnusable(f"{target}: cannot be written ({error.strerror}).") from error


def copy_into(db: apsw.Connection, target: Path) -> None:
    """Write a compact copy of `db` to `target`, which must not exist, for its owner's eyes only.

    It is on the disk then, under its name, and can give back space that is free. Whoever goes on
    from it does not know what was started since, and waits a whole interval.
    """
    # SQLite takes an empty file as it is, with its permissions.
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        if db.execute("PRAGMA auto_vacuum").fetchall() == [(0,)]:
            # Means the copy; in a file that is so already it would be a change of that.
            db.execute("PRAGMA auto_vacuum = INCREMENTAL").fetchall()
        db.execute("VACUUM INTO ?", (str(target),)).fetchall()
        if format_of(db):
            use_existing(str(target), lambda copy: copy.execute(SQL["forget_instant"]).fetchall())
        sync(target)
        sync(target.parent)
    except BaseException:
        target.unlink()
        raise


def sync(path: Path) -> None:
    """Have what is at `path`, a file or the names in a folder, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def verify(path: str) -> tuple[int, int]:
    """Read everything in the journal at `path`; return how many ingestions, and unfinished ones.

    Raise `JournalDamaged` if anything is, `JournalUnusable` if that cannot be told, as of a
    newer version.
    """

    def look(db: apsw.Connection) -> tuple[int, int]:
        refuse_newer(format_of(db), Path(path))
        findings = [str(text) for (text,) in db.execute("PRAGMA integrity_check(10)")]
        if findings != ["ok"]:
            raise apsw.CorruptError("; ".join(findings))
        (counts,) = db.execute(SQL["count"]).fetchall()
        return cast(tuple[int, int], counts)

    return use_existing(path, look)


def restore(path: str, source: str) -> None:
    """Put the backup `source` in the place of the journal at `path`; refuse while it is in use.

    Wherever this is cut short, there is a whole journal: the old one with everything
    that it had acknowledged, or the backup.
    """
    verify(source)
    file = JournalFile(path)
    try:
        if Path(source).samefile(file.path):
            raise JournalUnusable(f"{source}: is the journal itself.")
        fresh = file.path.with_name(file.path.name + ".new")
        fresh.unlink(missing_ok=True)
        use_existing(source, lambda db: copy_into(db, fresh))
        put_in_place(file.path, fresh)
    except OSError as error:
        raise JournalUnusable(f"{path}: cannot be replaced ({error.strerror}).") from error
    finally:
        file.close()


def put_in_place(journal: Path, fresh: Path) -> None:
    """Let `fresh`, which is on the disk, be the journal; its lock is held."""
    _fold(journal)
    fresh.replace(journal)
    sync(journal.parent)


def _fold(journal: Path) -> None:
    """Leave nothing beside the journal: a log would be taken for a part of its successor.

    Only what has moved into the file can go before the new one is in its place, and
    nothing may still have to go after that.
    """
    try:
        db = apsw.Connection(str(journal), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            # The last connection takes the log along.
            db.close(True)
        # Without a file the log is nobody's; SQLite takes it away only when it reads.
        is_empty = journal.stat().st_size == 0
        left = [path for path in _beside(journal) if path.stat().st_size and not is_empty]
    except (apsw.NotADBError, apsw.CorruptError):
        # Which may be why somebody restores; nothing is lost with its log.
        left = []
    except apsw.Error as error:
        raise unusable(journal, error) from error
    if left:
        raise JournalUnusable(f"{journal}: another program reads it; end that first.")
    for path in _beside(journal):
        path.unlink()
    sync(journal.parent)


def _beside(journal: Path) -> list[Path]:
    paths = (journal.with_name(journal.name + ending) for ending in (*SIDE_FILES, "-journal"))
    return [path for path in paths if path.exists()]


def use_existing(path: str, use: Callable[[apsw.Connection], T]) -> T:
    """Return what `use` makes of the journal at `path`, which must be there."""
    try:
        db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
        db.set_busy_timeout(BUSY_TIMEOUT)
        try:
            return use(db)
        finally:
            db.close(True)
    except apsw.Error as error:
        raise unusable(Path(path), error) from error
