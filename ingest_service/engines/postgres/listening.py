"""Who waits for a change of an ingestion is told by the database: one listener a process."""

import itertools
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg

from ingest_service.engines.postgres.database import Connection

#: Seconds between two tries to listen while the database cannot be reached.
_AGAIN_AFTER = 0.5
#: Seconds after which a quiet connection is asked whether it is there at all.
_QUIET = 15.0


class Listener:
    """A thread that listens on a channel, and calls `heard` with what is told there.

    `heard(None)` means that something may have been missed.
    """

    def __init__(self, conninfo: str, channel: str, heard: Callable[[str | None], None]) -> None:
        self._conninfo = conninfo
        self._channel = channel
        self._heard = heard
        self._stopped = threading.Event()
        self._listening = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self, wait: float = 0.0) -> None:
        """Listen from now on; return once that is so, after `wait` seconds at most."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=f"listen-{self._channel}", daemon=True
                )
                self._thread.start()
        if wait:
            self._listening.wait(wait)

    def stop(self) -> None:
        """End the thread soon."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            with suppress(psycopg.Error, OSError), self._connect() as connection:
                self._listen(connection)
            self._listening.clear()
            self._stopped.wait(_AGAIN_AFTER)

    def _connect(self) -> Connection:
        return psycopg.connect(self._conninfo, autocommit=True)

    def _listen(self, connection: Connection) -> None:
        connection.execute(f"LISTEN {self._channel}")
        self._listening.set()
        self._heard(None)
        poll, quiet = select.poll(), 0.0
        poll.register(connection.fileno(), select.POLLIN | select.POLLHUP)
        while not self._stopped.is_set():
            if poll.poll(500):
                quiet = 0.0
            elif (quiet := quiet + 0.5) < _QUIET:
                continue
            else:
                quiet = 0.0
                connection.execute("SELECT 1")
            for told in connection.notifies(timeout=0):
                self._heard(told.payload)


class Listening:
    """Those who wait, by ingestion."""

    def __init__(self, conninfo: str) -> None:
        self._listener = Listener(conninfo, "ingest_changed", self._heard)
        self._lock = threading.Lock()
        self._watches: dict[str, dict[int, Callable[[], None]]] = {}
        self._ties = itertools.count()

    def watch(self, ingestion_id: str, on_change: Callable[[], None]) -> Callable[[], None]:
        """Call `on_change` at the next change of an ingestion; return what ends that."""
        self._listener.start(wait=1.0)
        number = next(self._ties)
        with self._lock:
            self._watches.setdefault(ingestion_id, {})[number] = on_change

        def end() -> None:
            with self._lock:
                watches = self._watches.get(ingestion_id, {})
                watches.pop(number, None)
                if not watches:
                    self._watches.pop(ingestion_id, None)

        return end

    def count(self) -> int:
        """Return how many watch something."""
        with self._lock:
            return sum(map(len, self._watches.values()))

    def release(self) -> None:
        """Call everybody who waits."""
        self._heard(None)

    def stop(self) -> None:
        """Call everybody, and listen no more."""
        self._listener.stop()
        self.release()

    def _heard(self, ingestion_id: str | None) -> None:
        with self._lock:
            if ingestion_id is None:
                waiting: list[Any] = [one for of in self._watches.values() for one in of.values()]
                self._watches.clear()
            else:
                waiting = list(self._watches.pop(ingestion_id, {}).values())
        for on_change in waiting:
            on_change()
