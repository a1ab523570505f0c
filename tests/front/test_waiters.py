"""Clients that wait for a change: whatever they wait by is ended when they go."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from ingest_service.errors import StorageUnavailable
from ingest_service.front.pool import Pool
from ingest_service.front.waiters import Waiters


async def receive() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.timeout(20)
def test_a_watch_that_begins_after_its_client_has_gone_is_ended() -> None:
    began, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def watch(_: str, __: int, ___: Callable[[], None]) -> Callable[[], None]:
        began.set()
        go_on.wait(10)
        return ended.set

    async def story() -> None:
        loop = asyncio.get_running_loop()
        waiters = Waiters(loop, Pool(loop, 1, 0), watch)
        waiting = asyncio.create_task(waiters.wait("one", 1, 60, receive))
        await asyncio.to_thread(began.wait, 10)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        assert not ended.is_set()
        go_on.set()
        assert await asyncio.to_thread(ended.wait, 10)

    asyncio.run(story())


@pytest.mark.timeout(20)
def test_nobody_waits_by_a_database_that_is_away() -> None:
    def watch(_: str, __: int, ___: Callable[[], None]) -> Callable[[], None]:
        raise StorageUnavailable("It is away.")

    async def story() -> None:
        loop = asyncio.get_running_loop()
        await Waiters(loop, Pool(loop, 1, 0), watch).wait("one", 1, 60, receive)

    asyncio.run(story())
