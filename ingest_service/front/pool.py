"""A few threads for what can take long, and a bounded line before them."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from ingest_service.front.refusals import ClientGone, Refused

Result = TypeVar("Result")
#: How long threads wait for the others when they begin.
_BEGIN_SECONDS = 5.0


class Pool:
    """Runs what would hold up the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: int, waiting: int) -> None:
        self._loop = loop
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="request")
        # All of them now: a number that grows with each crowd would look like one that leaks.
        begun = threading.Barrier(threads)
        with suppress(RuntimeError):  # the machine has no more; some are enough
            for _ in range(threads):
                self._executor.submit(begun.wait, _BEGIN_SECONDS)
        self._most = threads + waiting
        #: What runs or waits.
        self.busy = 0

    async def run(
        self,
        work: Callable[[], Result],
        is_gone: Callable[[], bool] | None = None,
        *,
        bounded: bool = True,
    ) -> Result:
        """Return what `work()` returns; without beginning it if the client has gone by then.

        Raise `Refused` if too much waits, unless it is a part of what has begun, and `ClientGone`.
        """
        if bounded and self.busy >= self._most:
            raise Refused("not-ready", "Too many requests are under way.")

        def begin() -> Result:
            if is_gone is not None and is_gone():
                raise ClientGone
            return work()

        self.busy += 1
        running = self._executor.submit(begin)
        # Not when the waiting is cancelled: a thread cannot be.
        running.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._done))
        try:
            return await asyncio.wrap_future(running, loop=self._loop)
        finally:
            # What it has raised holds this frame: together they would stay, see `let_go`.
            del running

    def forget(self, work: Callable[[], object]) -> None:
        """Have something done that nobody waits for."""
        with suppress(RuntimeError):  # the pool is closed
            self._executor.submit(work)

    def close(self) -> None:
        """Begin nothing more."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _done(self) -> None:
        self.busy -= 1
