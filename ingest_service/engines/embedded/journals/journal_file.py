"""The file itself: ours alone while it is in use, nobody else's to read, and still there."""

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

from ingest_service.errors import JournalUnusable, StorageUnavailable

#: What SQLite puts beside the file.
_INDEX = "-shm"
SIDE_FILES = ("-wal", _INDEX)
#: A byte far beyond every file, so beyond those that SQLite locks as well.
_LOCKED_BYTE = 2**62
_PRIVATE = 0o600


class JournalLost(StorageUnavailable):
    """Somebody else has laid hands on the files; what is written now may be gone tomorrow."""


class JournalFile:
    """Holds the lock on the file, and notices when somebody else has laid hands on it.

    Open it before the first connection and close it after the last: SQLite loses its
    own locks when any descriptor of the file is closed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        #: Where it really is: SQLite follows symbolic links too.
        self.path = Path(os.path.realpath(path))
        self._descriptors = [hold(self.path)]
        self._names = [str(self.path), *(f"{self.path}{ending}" for ending in SIDE_FILES)]
        self._seen: list[os.stat_result | None] = []
        try:
            self._descriptors += _hold_old_lock(self.path)
        except JournalUnusable:
            self.close()
            raise

    def make_private(self) -> None:
        """Let nobody but the owner read or write it; SQLite does the same with what it adds."""
        for name in self._names:
            # One that belongs to somebody else stays as it is.
            with suppress(OSError):
                os.chmod(name, _PRIVATE)

    def note(self) -> None:
        """Take the files as they are now for what they should be: we have just written them.

        Raise `JournalLost` if they are not the ones we have written.
        """
        now = [_look(name) for name in self._names]
        self._compare(now, sizes=False)
        self._seen = now

    def check(self) -> None:
        """Raise `JournalLost` if others have changed the files."""
        self._compare([_look(name) for name in self._names], sizes=True)

    def _compare(self, now: list[os.stat_result | None], *, sizes: bool) -> None:
        for name, before, after in zip(self._names, self._seen, now, strict=False):
            if before is None:
                continue
            if after is None:
                raise JournalLost(f"{name} was deleted while it was in use")
            if not os.path.samestat(before, after):
                raise JournalLost(f"{name} was replaced while it was in use")
            # An index that is cut short ends the process before anybody can look at it.
            if sizes and after.st_size < before.st_size and not name.endswith(_INDEX):
                raise JournalLost(f"{name} was cut short while it was in use")

    def close(self) -> None:
        """Let others have it."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def check_usable(path: str | os.PathLike[str]) -> None:
    """Raise `JournalUnusable` if it can be told from outside that the journal cannot be opened.

    Makes no file: the one who opens it can be another user.
    """
    place = Path(os.path.realpath(path))
    if place.exists() or not place.parent.is_dir():
        JournalFile(place).close()


def hold(path: Path) -> int:
    """Lock the file at `path`, made if need be, until the descriptor is closed; return that.

    Raise `JournalUnusable` if another process has it. The lock is on the file, not on
    its name: another name for it, or a side file that is gone, lets nobody in.
    """
    try:
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
            try:
                _lock(descriptor, path)
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            # Another one was put in its place meanwhile.
            os.close(descriptor)
    except IsADirectoryError as error:
        raise JournalUnusable(f"{path}: cannot be opened: it is a folder; name a file.") from error
    except OSError as error:
        raise JournalUnusable(
            f"{path}: {error.strerror}; is the folder there and writable?"
        ) from error


def _lock(descriptor: int, path: Path) -> None:
    try:
        if hasattr(fcntl, "F_OFD_SETLK"):
            # Belongs to the descriptor and not to the process, as SQLite's own do.
            lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _LOCKED_BYTE, 1, 0)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise JournalUnusable(
            f"{path}: another process uses this journal; stop it, or give this one a journal of "
            "its own with INGEST_JOURNAL."
        ) from error


def _hold_old_lock(path: Path) -> list[int]:
    """Keep away from a service of a version that had a file of its own for the lock."""
    try:
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise JournalUnusable(
            f"{path}: a process of an older version uses this journal; stop it first."
        ) from error
    return [descriptor]


def _look(name: str) -> os.stat_result | None:
    try:
        return os.stat(name)
    except FileNotFoundError:
        return None
