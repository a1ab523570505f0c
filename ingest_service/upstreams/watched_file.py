"""A file that is read again when it was changed."""

import logging
import os
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

    def __init__(self, clock: Clock, path: str | None, read: Callable[[], Content]) -> None:
        self._clock = clock
        self._path = path
        self._read = read
        self._lock = threading.Lock()
        # Before it is read: a change in between is noticed then.
        self._seen = self._look()
        self._looked_at = clock.monotonic()
        self._content = read()

    def current(self) -> Content:
        """Return the content; the same object as long as the file stays the same."""
        with self._lock:
            now = self._clock.monotonic()
            if self._path is not None and now >= self._looked_at + LOOK_EVERY:
                self._looked_at = now
                self._refresh()
            return self._content

    def _refresh(self) -> None:
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._content = self._read()
        except SettingsError as error:
            logs.event("file_unusable", level=logging.ERROR, reason=str(error))
        else:
            logs.event("file_read_again", path=self._path)

    def _look(self) -> tuple[int, ...] | None:
        """Return what changes whenever the file does; None if it is not there."""
        if self._path is None:
            return None
        try:
            stat = os.stat(self._path)
        except OSError:
            return None
        # The mode too: it may have been refused for that.
        return stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_mode
