"""A disk whose power can be cut: SQLite writes through it, and it knows what was synced."""

import itertools
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import apsw

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: What a disk writes as a whole or not at all.
SECTOR = 512

_numbers = itertools.count()


class _Write(NamedTuple):
    data: bytes
    offset: int


class _Truncate(NamedTuple):
    size: int


class _Delete(NamedTuple):
    pass


_Change = _Write | _Truncate | _Delete


class _Image:
    """A file as the disk has it, and what has not reached the disk for sure."""

    def __init__(self, path: Path) -> None:
        #: None: there is no such file.
        self.synced = bytearray(path.read_bytes()) if path.exists() else None
        self.pending: list[_Change] = []
        #: Whether the next sync also syncs the folder.
        self.folder_due = False

    def sync(self) -> None:
        for change in self.pending:
            self.synced = _applied(self.synced, change)
        self.synced = bytearray() if self.synced is None else self.synced
        self.pending.clear()

    def sync_deletion(self) -> None:
        if _Delete() in self.pending:
            last = len(self.pending) - self.pending[::-1].index(_Delete())
            self.synced = None
            del self.pending[:last]

    def torn(self, chance: random.Random) -> bytearray | None:
        """Return the file after a power cut: any part of what is pending has happened."""
        content = None if self.synced is None else bytearray(self.synced)
        # From nothing to everything: a cut soon after a sync, and one long after it.
        share = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for change in self.pending:
            for part in _parts(change):
                if chance.random() < share:
                    content = _applied(content, part)
        return content


class PowerDisk(apsw.VFS):
    """Passes everything through, and ends for good after `operations` changes or at `cut`.

    Whatever was written after a file's last sync may or may not have happened,
    sector by sector. A deletion is certain once the folder was synced, which
    SQLite does with the first sync of a new journal or WAL; a new file is taken
    to be there after its first sync. Shared memory is gone after a cut.
    """

    def __init__(self, seed: int, operations: int) -> None:
        self.name = f"power-{next(_numbers)}"
        self._chance = random.Random(seed)  # noqa: S311
        self._left = operations
        self._lock = threading.RLock()
        self._images: dict[Path, _Image] = {}
        #: What is left of each file, None while there is power.
        self._remains: dict[Path, bytearray | None] | None = None
        super().__init__(self.name, "")

    def excepthook(self, *_: object) -> bool:
        """Errors are what this is for; nobody needs to hear of them."""
        return True

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        """Open a file; what it holds already is as good as synced."""
        with self._lock:
            if name is None or self._remains is not None:
                raise apsw.CantOpenError("no temporary files here, and none without power")
            path = Path(name if isinstance(name, str) else name.filename())
            image = self._images.setdefault(path, _Image(path))
            is_journal = flags[0] & (apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL)
            image.folder_due = bool(is_journal) and not path.exists()
            return _PowerFile(self, image, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        """Delete a file, for certain only if the folder is synced along with it."""
        with self._lock:
            image = self._images.setdefault(Path(filename), _Image(Path(filename)))
            self.change(image, _Delete())
            super().xDelete(filename, syncdir)
            if syncdir:
                self._sync_folder()

    def cut(self) -> None:
        """End it now."""
        with self._lock:
            if self._remains is None:
                self._remains = {
                    path: image.torn(self._chance) for path, image in self._images.items()
                }

    def leave_remains(self, folder: Path) -> None:
        """Write what the cut has left to `folder`."""
        assert self._remains is not None
        folder.mkdir()
        for path, content in self._remains.items():
            if content is not None:
                (folder / path.name).write_bytes(content)

    def change(self, image: _Image, change: _Change) -> None:
        """Take note of a change that is about to happen, unless the cut comes first."""
        with self._lock:
            image.pending.append(change)
            self._operate()

    def sync(self, image: _Image) -> None:
        """Make certain what is pending, unless the cut comes first."""
        with self._lock:
            self._operate()
            image.sync()
            if image.folder_due:
                image.folder_due = False
                self._sync_folder()

    def _operate(self) -> None:
        self._left -= 1
        if self._left <= 0:
            self.cut()
        if self._remains is not None:
            raise apsw.IOError("the power is cut")

    def _sync_folder(self) -> None:
        for image in self._images.values():
            image.sync_deletion()


class _PowerFile(apsw.VFSFile):
    def __init__(
        self, disk: PowerDisk, image: _Image, name: str | apsw.URIFilename, flags: list[int]
    ) -> None:
        self._disk = disk
        self._image = image
        super().__init__("", name, flags)

    def excepthook(self, *_: object) -> bool:
        return True

    def xWrite(self, data: "Buffer", offset: int) -> None:
        self._disk.change(self._image, _Write(bytes(data), offset))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        self._disk.change(self._image, _Truncate(newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        # The real disk need not hear of it: nobody cuts its power.
        self._disk.sync(self._image)


def _parts(change: _Change) -> Iterator[_Change]:
    """Cut a write where one sector ends and the next begins."""
    if not isinstance(change, _Write):
        yield change
        return
    start = 0
    while start < len(change.data):
        end = start + SECTOR - (change.offset + start) % SECTOR
        yield _Write(change.data[start:end], change.offset + start)
        start = end


def _applied(content: bytearray | None, change: _Change) -> bytearray | None:
    if isinstance(change, _Delete):
        return None
    content = bytearray() if content is None else content
    if isinstance(change, _Truncate):
        del content[change.size :]
        return content
    end = change.offset + len(change.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    content[change.offset : end] = change.data
    return content
