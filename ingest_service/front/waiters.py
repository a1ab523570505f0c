"""Clients that wait for a change: a place in a set each, and no thread."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from ingest_service.errors import StorageUnavailable
from ingest_service.front import limits
from ingest_service.front.arrivals import Receive
from ingest_service.front.pool import Pool

#: Calls back, from any thread, at the first change of an ingestion; returns what ends that.
Watch = Callable[[str, int, Callable[[], None]], Callable[[], None]]


class Waiters:
    """All who wait for a change."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Pool, watch: Watch) -> None:
        self._loop = loop
        self._pool = pool
        self._watch = watch
        self._waiting: set[asyncio.Future[Any]] = set()
        self._released = False

    async def wait(
        self,
        ingestion_id: str,
        version: int,
        seconds: float,
        receive: Receive,
        has_ended: Callable[[], bool] = lambda: False,
    ) -> None:
        """Return at the first change, when the client hangs up, or after `seconds`.

        At once if too many are waiting already, the service stops, nobody can tell, or the client
        `has_ended` its half.
        """
        if self._released or len(self._waiting) >= limits.MAX_WAITERS:
            return
        changed = self._loop.create_future()

        def call_back() -> None:
            self._loop.call_soon_threadsafe(_set, changed)

        self._waiting.add(changed)
        try:
            end = await self._begin(partial(self._watch, ingestion_id, version, call_back))
            hung_up = asyncio.ensure_future(_hang_up(receive, has_ended))
            try:
                await asyncio.wait(
                    (changed, hung_up), timeout=seconds, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                end()
                hung_up.cancel()
        except StorageUnavailable:
            pass  # the view has words for it
        finally:
            self._waiting.discard(changed)

    async def _begin(self, watch: Callable[[], Callable[[], None]]) -> Callable[[], None]:
        """Have `watch()` called in a thread, because it may ask a database; return its end."""
        watching = asyncio.ensure_future(self._pool.run(watch, bounded=False))
        try:
            return await asyncio.shield(watching)
        except asyncio.CancelledError:
            # Who waited has gone; what the thread begins all the same has to be ended.
            watching.add_done_callback(_end)
            raise

    def release(self) -> None:
        """Answer all who wait; nobody waits from now on."""
        self._released = True
        for changed in self._waiting:
            _set(changed)


async def _hang_up(receive: Receive, has_ended: Callable[[], bool]) -> None:
    """Return when the client has gone; the end of its request comes before that."""
    while not has_ended() and (await receive())["type"] != "http.disconnect":
        pass


def _end(watching: "asyncio.Future[Callable[[], None]]") -> None:
    if not watching.cancelled() and not watching.exception():
        watching.result()()


def _set(changed: "asyncio.Future[None]") -> None:
    if not changed.done():
        changed.set_result(None)
