"""Group commit: what is answered is on the disk, and what is refused leaves no trace."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import apsw

from ingest_service import logs
from ingest_service.engines.embedded.journals.connections import (
    close_quietly,
    connect,
    transaction,
)
from ingest_service.engines.embedded.journals.files import copy_into
from ingest_service.engines.embedded.journals.journal_file import JournalFile, JournalLost
from ingest_service.engines.embedded.journals.schema import check_content, migrate
from ingest_service.engines.embedded.journals.statements import SQL
from ingest_service.errors import IdempotencyMismatch, StorageUnavailable

Write = Callable[[apsw.Connection], Any]


class Committer:
    """The connection that writes. Used by one thread at a time.

    Raises `JournalUnusable` or an `apsw.Error` if the file cannot be opened.
    """

    def __init__(
        self, file: JournalFile, monotonic: Callable[[], float], vfs: str | None = None
    ) -> None:
        self._file = file
        self._vfs = vfs
        self._trouble = logs.Trouble("storage", monotonic)
        #: Whether what was refused may be in the WAL all the same.
        self._doubtful = False
        #: What to do about a journal that somebody else has taken away; None while it is there.
        self._advice: str | None = None
        self._db: apsw.Connection | None = connect(file.path, vfs)
        #: Keeps the index of the WAL alive, which tells how far it counts, whatever others close.
        self._guard: apsw.Connection | None = None
        try:
            migrate(self._db, file.path)
            check_content(self._db, file.path)
            self._guard = connect(file.path, vfs)
            #: Number of the last commit.
            self._number = self._last_commit()
        except BaseException:
            self.close()
            raise
        file.make_private()
        file.note()

    def commit(self, writes: Sequence[Write]) -> list[Any]:
        """Run all `writes` in one transaction; return what each returned, or its refusal.

        Either every one is on the disk, or none and each is refused.
        """
        try:
            return self._commit(writes)
        except JournalLost as error:
            self._trouble.occurred(f"{error}: {self._rescue()}")
        except Exception as error:  # noqa: BLE001 - if the thread dies, everybody waits for ever
            self._give_up(error)
        refusal = StorageUnavailable("The journal cannot be written.")
        return [refusal] * len(writes)

    def checkpoint(self) -> None:
        """Move the WAL into the file, as far as nobody reads in it."""
        try:
            self._connection().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._file.note()
        except JournalLost:
            pass  # whoever commits next hears of it
        except apsw.Error as error:
            self._disconnect(error)

    def settle_doubts(self) -> None:
        """Take back what was refused, if that was not possible before."""
        if self._doubtful:
            self.commit([])

    def close(self) -> None:
        """Let go of the connections; the last one moves the WAL into the file."""
        close_quietly(self._db)
        close_quietly(self._guard)
        self._db = self._guard = None

    def _commit(self, writes: Sequence[Write]) -> list[Any]:
        self._file.check()
        db = self._connection()
        self._take_back(db)
        if not writes:
            return []
        db.execute("BEGIN IMMEDIATE")
        number = self._number_commit(db)
        results = [_attempt(write, db) for write in writes]
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
        self._file.note()
        return results

    def _give_up(self, error: Exception) -> None:
        """Let go of the connection, and of what was to be written.

        At once, not only before the next commit: nobody knows how long the process lives.
        """
        self._disconnect(error)
        try:
            self._take_back(self._connection())
        except (apsw.Error, OSError, JournalLost) as also:
            self._disconnect(also)

    def _disconnect(self, error: Exception) -> None:
        # After an error nothing is known about what the connection believes to
        # have written; a new one reads the file.
        self._trouble.occurred(str(error), None if isinstance(error, apsw.Error) else error)
        close_quietly(self._db)
        self._db = None
        # What failed may have cut the files short before: that was nobody else. Whoever commits
        # next hears of one that is not there any more.
        with suppress(JournalLost, OSError):
            self._file.note()

    def _take_back(self, db: apsw.Connection) -> None:
        """Make sure that what was refused is not there, before anything else is written.

        A commit whose sync fails is in the WAL all the same, behind the end that its
        index knows, and whoever opens the file after a crash would find it. What is
        written next takes its place, and what follows that in the WAL is void.
        """
        if self._doubtful:
            with transaction(db, "BEGIN IMMEDIATE"):
                self._number_commit(db)
            self._doubtful = False
            self._file.note()

    def _rescue(self) -> str:
        """Copy what was acknowledged, which is still open, to another file; return what to do."""
        if self._advice is None and self._guard is not None:
            copy = self._file.path.with_name(f"{self._file.path.name}.rescued-{self._number}")
            try:
                copy_into(self._guard, copy)
                what = f"everything acknowledged is in {copy}"
            except (OSError, apsw.Error) as error:
                copy, what = Path("BACKUP"), f"no copy of it could be written ({error})"
            self._advice = (
                f"{what}; stop the service, run `ingest-service restore {copy}`, and "
                "start it again. Until then nothing is accepted and nothing is sent."
            )
        return self._advice or "stop the service."

    def _number_commit(self, db: apsw.Connection) -> int:
        """Let the transaction that has begun bear the next number; return it."""
        self._number += 1
        db.execute(SQL["number_commit"], {"number": self._number})
        return self._number

    def _last_commit(self) -> int:
        """Return the number of the last commit that counts, whatever was said about it."""
        assert self._guard is not None  # noqa: S101 - it is there while anything is written
        return cast(int, self._guard.execute(SQL["last_commit"]).fetchall()[0][0])

    def _connection(self) -> apsw.Connection:
        if self._db is None:
            self._db = connect(self._file.path, self._vfs)
            self._number = self._last_commit()
        return self._db


def _attempt(write: Write, db: apsw.Connection) -> Any:
    """Return what `write` returns, or the refusal that it raises."""
    try:
        return write(db)
    except IdempotencyMismatch as refusal:
        # Without the way it came: that holds everything that is committed with it.
        return refusal.with_traceback(None)
