"""How much the disk can still take: new work is refused before accepted work gets stuck."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from ingest_service import logs

#: How long an answer of the disk is good for, in seconds.
_FRESH = 1.0


class FreeSpace:
    """Tells whether the disk of a folder has less than `least` bytes free."""

    def __init__(self, folder: Path, least: int, monotonic: Callable[[], float]) -> None:
        self._folder = folder
        self._least = least
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._is_short = False

    @property
    def is_short(self) -> bool:
        """Whether there was too little a moment ago; changes are logged."""
        if not self._least:
            return False
        with self._lock:
            now = self._monotonic()
            if now >= self._asked_at + _FRESH:
                self._asked_at = now
                self._ask()
            return self._is_short

    def _ask(self) -> None:
        try:
            disk = os.statvfs(self._folder)
        except OSError:
            return  # whoever writes hears what is wrong
        free = disk.f_bavail * disk.f_frsize
        is_short = free < self._least
        if is_short != self._is_short:
            self._is_short = is_short
            logs.event(
                "disk_short" if is_short else "disk_healed",
                level=logging.ERROR if is_short else logging.INFO,
                free=free,
                least=self._least,
            )
