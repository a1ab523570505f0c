"""Clients that wait for a change: a place in a set each, and no thread."""

import asyncio
from collections.abc import Callable
from typing import Any

from ingest_service.front import limits
from ingest_service.front.arrivals import Receive

#: Calls back, from any thread, at the first change of an ingestion; returns what ends that.
Watch = Callable[[str, int, Callable[[], None]], Callable[[], None]]


class Waiters:
    """All who wait for a change."""

    def __init__(self, loop: asyncio.AbstractEventLoop, watch: Watch) -> None:
        self._loop = loop
        self._watch = watch
        self._waiting: set[asyncio.Future[Any]] = set()
        self._released = False

    async def wait(self, ingestion_id: str, version: int, seconds: float, receive: Receive) -> None:
        """Return at the first change, when the client hangs up, or after `seconds`.

        At once if too many are waiting already, or the service stops.
        """
        if self._released or len(self._waiting) >= limits.MAX_WAITERS:
            return
        changed = self._loop.create_future()
        hung_up = asyncio.ensure_future(_hang_up(receive))

        def call_back() -> None:
            self._loop.call_soon_threadsafe(_set, changed)

        end = self._watch(ingestion_id, version, call_back)
        self._waiting.add(changed)
        try:
            await asyncio.wait(
                (changed, hung_up), timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self._waiting.discard(changed)
            end()
            hung_up.cancel()

    def release(self) -> None:
        """Answer all who wait; nobody waits from now on."""
        self._released = True
        for changed in self._waiting:
            _set(changed)


async def _hang_up(receive: Receive) -> None:
    """Return when the client has gone; the end of its request comes before that."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _set(changed: "asyncio.Future[None]") -> None:
    if not changed.done():
        changed.set_result(None)
