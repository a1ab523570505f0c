"""Whoever waits for a server that is gone without a word is told so, after a while."""

import os
import socket
import threading
from contextlib import suppress
from typing import Any

import psycopg

from ingest_service.clock import SystemClock

#: Seconds that a transaction may take, its wait for the server included.
LONGEST = 10.0
_BETWEEN_LOOKS = 1.0


class Watchdog:
    """Hangs up on the server where a transaction takes too long.

    Neither the driver nor the system's keepalive notice a peer that takes everything
    and answers nothing.
    """

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._lock = threading.Lock()
        self._since: dict[int, tuple[Any, float]] = {}
        self._thread: threading.Thread | None = None

    def begin(self, connection: Any) -> None:
        """Watch a connection from now on."""
        with self._lock:
            self._since[id(connection)] = connection, self._clock.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self._thread.start()

    def end(self, connection: Any) -> None:
        """Watch it no more."""
        with self._lock:
            self._since.pop(id(connection), None)

    def _run(self) -> None:
        while True:
            self._clock.sleep(_BETWEEN_LOOKS)
            now = self._clock.monotonic()
            with self._lock:
                late = [one for one, since in self._since.values() if now - since > LONGEST]
                for connection in late:
                    _hang_up(connection)
                if not self._since:
                    self._thread = None
                    return


def _hang_up(connection: Any) -> None:
    # It may have been closed a moment ago.
    with suppress(OSError, psycopg.Error):
        copy = socket.socket(fileno=os.dup(connection.fileno()))
        with copy:
            copy.shutdown(socket.SHUT_RDWR)
