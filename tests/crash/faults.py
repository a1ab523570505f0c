"""A disk that refuses to write or to sync when it is told to."""

import itertools
import threading
from enum import StrEnum
from typing import TYPE_CHECKING

import apsw

if TYPE_CHECKING:
    from typing_extensions import Buffer

_numbers = itertools.count()


class Operation(StrEnum):
    """What a disk can fail to do."""

    WRITE = "write"
    SYNC = "sync"


class FaultyDisk(apsw.VFS):
    """Passes everything through until it was told to break down, and again once it is repaired."""

    def __init__(self) -> None:
        self.name = f"faulty-{next(_numbers)}"
        self._lock = threading.Lock()
        self._operation: Operation | None = None
        self._left = 0
        self._error: type[apsw.Error] = apsw.IOError
        self._lasting = False
        self._writes_too = True
        #: How many operations have failed.
        self.failed = 0
        super().__init__(self.name, "")

    def break_down(
        self,
        operation: Operation,
        nth: int,
        error: type[apsw.Error],
        *,
        lasting: bool,
        writes_too: bool = True,
    ) -> None:
        """Fail the `nth` operation from now on, and if `lasting` all syncs after it.

        And all writes, unless the disk only says that nothing can be synced.
        """
        with self._lock:
            self._operation, self._left = operation, nth
            self._error, self._lasting, self._writes_too = error, lasting, writes_too
            self.failed = 0

    def repair(self) -> None:
        """Work again."""
        with self._lock:
            self._operation = None

    def excepthook(self, *_: object) -> bool:
        """Errors are what this is for; nobody needs to hear of them."""
        return True

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        """Open a file that fails along with the disk."""
        return _FaultyFile(self, name, flags)

    def operate(self, operation: Operation) -> None:
        """Raise if it is time to."""
        with self._lock:
            if self._operation is None:
                return
            both = self._writes_too or operation is Operation.SYNC
            broken = self.failed and self._lasting and both
            if operation is self._operation and not self.failed:
                self._left -= 1
                broken = self._left == 0
            if broken:
                self.failed += 1
                raise self._error("the disk is broken")


class _FaultyFile(apsw.VFSFile):
    def __init__(
        self, disk: FaultyDisk, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        self._disk = disk
        super().__init__("", name, flags)

    def excepthook(self, *_: object) -> bool:
        return True

    def xWrite(self, data: "Buffer", offset: int) -> None:
        self._disk.operate(Operation.WRITE)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        # The real disk need not hear of it: nobody cuts its power.
        self._disk.operate(Operation.SYNC)
