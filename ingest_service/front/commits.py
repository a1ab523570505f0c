"""Waking requests whose commit has returned, once for a whole group."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any


class Commits:
    """Lets requests in the loop wait for futures that other threads resolve."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._returned: deque[asyncio.Future[None]] = deque()
        self._awake = False

    async def settled(self, futures: Sequence[Future[Any]]) -> None:
        """Return when all `futures` have succeeded; raise what one of them has failed with."""
        for future in futures:
            if not future.done():
                waiter = self._loop.create_future()
                future.add_done_callback(partial(self._wake, waiter))
                await waiter
            future.result()

    def _wake(self, waiter: "asyncio.Future[None]", _: Future[Any]) -> None:
        """Called by the thread that commits: the loop is woken by the first of a group."""
        self._returned.append(waiter)
        if not self._awake:
            self._awake = True
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        # Before looking: what is appended from now on wakes the loop anew.
        self._awake = False
        while self._returned:
            waiter = self._returned.popleft()
            if not waiter.done():
                waiter.set_result(None)
