"""Files of an operator: read again when they were changed, and kept from others if secret."""

import logging
import os
import shlex
import stat
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ingest_service import logs
from ingest_service.clock import Clock
from ingest_service.errors import SettingsError

#: Seconds between two looks at the file.
LOOK_EVERY = 1.0

Content = TypeVar("Content")


class WatchedFile(Generic[Content]):
    """What `read` makes of the file at `path`, at most a second old.

    A new file that cannot be used changes nothing, and is logged once. Without a
    path it is read once.
    """

    def __init__(
        self,
        clock: Clock,
        path: str | None,
        read: Callable[[], Content],
        on_change: Callable[[Content, Content], None] | None = None,
    ) -> None:
        """Read it; `on_change` is told what it was and is, and must not take long."""
        self._clock = clock
        self._path = path
        self._read = read
        self._on_change = on_change
        self._lock = threading.Lock()
        # Before it is read: a change in between is noticed then.
        self._seen = self._look()
        self._looked_at = clock.monotonic()
        self._content = read()
        self._unusable: str | None = None
        #: Whether it could not even be read: that can pass without a change of the file.
        self._unread = False

    def current(self) -> Content:
        """Return the content; the same object as long as the file stays the same."""
        with self._lock:
            now = self._clock.monotonic()
            if self._path is not None and now >= self._looked_at + LOOK_EVERY:
                self._looked_at = now
                self._refresh()
            return self._content

    @property
    def unusable(self) -> str | None:
        """Why the file as it is now is not in force, None if it is."""
        return self._unusable

    def _refresh(self) -> None:
        seen = self._look()
        if seen == self._seen and not self._unread:
            return
        self._seen = seen
        before = self._content
        try:
            self._content = self._read()
        except SettingsError as error:
            self._unread = isinstance(error.__cause__, OSError)
            if str(error) != self._unusable:
                logs.event("file_unusable", level=logging.ERROR, reason=str(error))
            self._unusable = str(error)
        else:
            self._unread, self._unusable = False, None
            logs.event("file_read_again", path=self._path)
            if self._on_change is not None:
                self._on_change(before, self._content)

    def _look(self) -> tuple[int, ...] | None:
        """Return what changes whenever the file does; None if it is not there."""
        if self._path is None:
            return None
        try:
            now = os.stat(self._path)
        except OSError:
            return None
        # The mode too: it may have been refused for that.
        return now.st_mtime_ns, now.st_size, now.st_ino, now.st_mode


def read_private(named: str, path: str, limit: int = 2**20) -> bytes:
    """Return the content of a file that nobody else may read; errors say how it is `named`.

    Raise `SettingsError`.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            # Of the file that was opened: another one may have its name by now.
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(limit + 1) if stat.S_ISREG(mode) else b""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{named} cannot be read: {reason}.") from error
    if not stat.S_ISREG(mode):
        raise SettingsError(f"{named} must be a file that can be read again and again.")
    if mode & 0o077 and not _is_credential(path):
        raise SettingsError(
            f"{named}: others can read or change what is secret; "
            f"run `chmod 600 {shlex.quote(path)}`."
        )
    if len(content) > limit:
        raise SettingsError(f"{named} is larger than {limit} bytes.")
    return content


def _is_credential(path: str) -> bool:
    """Tell whether systemd keeps it for this service alone; its access list shows as a group."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return folder is not None and os.path.dirname(path) == folder


def _open_at_once(path: str, flags: int) -> int:
    """Open what may be a pipe that nobody writes to."""
    return os.open(path, flags | os.O_NONBLOCK)
