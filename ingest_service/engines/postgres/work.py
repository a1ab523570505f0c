"""A process that sends batches: an opener, and the carriage; whichever ends, the process ends."""

import asyncio
import logging
import signal
import threading

from ingest_service import logs
from ingest_service.clock import Clock
from ingest_service.engines import Slot
from ingest_service.engines.postgres.carriage import Carriage
from ingest_service.engines.postgres.carrier import Carrier
from ingest_service.engines.postgres.database import Database
from ingest_service.engines.postgres.dispatch import PostgresDispatch
from ingest_service.engines.postgres.listening import Listener
from ingest_service.engines.postgres.upkeep import Upkeep
from ingest_service.errors import StorageUnavailable

#: Seconds that batches under way have to end after a stop.
STOP_WITHIN = 28.0
#: Seconds between two tries while the database cannot be used, and at most after a bug.
_AGAIN_AFTER = 0.25
_LONGEST_PAUSE = 30.0
#: Longest wait at a stretch: a word may be lost with a connection.
_LOOK_AGAIN = 5.0


class Opener:
    """Opens slots for as long as this process has a thread for the batch."""

    def __init__(
        self,
        clock: Clock,
        dispatch: PostgresDispatch,
        carrier: Carrier,
        upkeep: Upkeep,
        threads: int,
    ) -> None:
        self._clock = clock
        self._dispatch = dispatch
        self._carrier = carrier
        self._upkeep = upkeep
        self._threads = threads
        self._changed = threading.Condition()
        self._news = False
        self._stopping = False
        self._failures = 0

    def run(self) -> None:
        """Take one turn after the other until `stop`."""
        while not self._stopping:
            self._wait(self._turn())

    def wake(self, _: str | None = None) -> None:
        """Take another look: something has changed. From any thread."""
        with self._changed:
            self._news = True
            self._changed.notify()

    def stop(self) -> None:
        """Open nothing more."""
        self._stopping = True
        self.wake()

    def _turn(self) -> float:
        self._news = False
        try:
            due = self._upkeep.turn()
            if self._carrier.busy < self._threads:
                taken = self._dispatch.take()
                due = self._clock.monotonic() if isinstance(taken, Slot) else min(taken, due)
        except StorageUnavailable as error:
            return self._failed(str(error), None)
        except Exception as error:  # noqa: BLE001 - the loop must outlive its bugs
            return self._failed(f"{type(error).__name__}: {error}", error)
        if self._failures:
            logs.event("worker_healed")
        self._failures, self._upkeep.trouble = 0, None
        return due

    def _failed(self, reason: str, bug: Exception | None) -> float:
        if not self._failures:
            level = logging.WARNING if bug is None else logging.ERROR
            logs.event("worker_held", level=level, reason=reason, exc_info=bug or False)
        self._failures += 1
        self._upkeep.trouble = None if bug is None else reason
        doubled = _AGAIN_AFTER * 2.0 ** min(self._failures - 1, 10)
        pause = _AGAIN_AFTER if bug is None else min(doubled, _LONGEST_PAUSE)
        return self._clock.monotonic() + pause

    def _wait(self, due: float) -> None:
        ahead = min(due - self._clock.monotonic(), _LOOK_AGAIN)
        if ahead <= 0:
            return
        with self._changed:
            self._clock.wait_for(
                self._changed,
                lambda: self._stopping or (self._news and not self._failures),
                ahead,
            )


class WorkerProcess:
    """The two loops of a worker."""

    def __init__(self, opener: Opener, carriage: Carriage, upkeep: Upkeep, db: Database) -> None:
        self._opener = opener
        self._carriage = carriage
        self._upkeep = upkeep
        self._database = db
        self._listener = Listener(db.conninfo, "ingest_wake", opener.wake)
        self._stopped = False

    @property
    def greeting(self) -> str:
        """What this is, and what it is connected to, for who starts it."""
        return f"Worker {self._upkeep.name} on the database {self._database.where}."

    def run(self) -> bool:
        """Work until SIGTERM or SIGINT; return whether it was one of these that ended it."""
        logs.event("worker_started", worker=self._upkeep.name, database=self._database.where)
        self._listener.start()
        try:
            asyncio.run(self._run())
        finally:
            self._opener.stop()
            self._listener.stop()
        logs.event("worker_stopped", worker=self._upkeep.name, asked=self._stopped)
        return self._stopped

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def stop() -> None:
            self._stopped = True
            ended.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)

        def open_slots() -> None:
            try:
                self._opener.run()
            finally:
                loop.call_soon_threadsafe(ended.set)

        opener = threading.Thread(target=open_slots, name="opener", daemon=True)
        carrying = asyncio.create_task(self._carriage.run(self._upkeep.name, STOP_WITHIN))
        waiting = asyncio.create_task(ended.wait())
        opener.start()
        await asyncio.wait([carrying, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        self._opener.stop()
        carrying.cancel()
        results = await asyncio.gather(carrying, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                logs.event("carriage_failed", level=logging.ERROR, reason=str(result))
        if self._stopped:
            await asyncio.to_thread(self._leave)

    def _leave(self) -> None:
        try:
            self._upkeep.leave()
        except StorageUnavailable:
            logs.event("worker_left_unseen", level=logging.WARNING)
