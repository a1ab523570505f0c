"""Clients that wait for a change: without a thread, however they ask; nothing stays of who goes."""

import asyncio
import itertools
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from flask import Flask

from ingest_service.errors import StorageUnavailable
from ingest_service.front import limits
from ingest_service.front.pool import Pool
from ingest_service.front.waiters import Waiters
from ingest_service.web import render
from tests.front.shells import BODY, JSON, Client, nothing_holds, run
from tests.uncollected import uncollected


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


def test_two_thousand_wait_without_a_thread(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = app.extensions["ingest_service"].queries
    watching: dict[int, Callable[[], None]] = {}
    keys = itertools.count()

    def watch(_: str, __: int, callback: Callable[[], None]) -> Callable[[], None]:
        key = next(keys)
        watching[key] = callback

        def end() -> None:
            del watching[key]

        return end

    monkeypatch.setattr(queries, "watch", watch)
    monkeypatch.setattr(limits, "POOL_WAITING", 5_000)
    accepted = app.test_client().post("/ingest", json={"ids": [1], "priority": "LOW"})
    path = f"/status/{accepted.get_json()['ingestion_id']}?wait=30"

    async def ask(client: Client) -> set[int]:
        asked = [asyncio.ensure_future(client.ask("GET", path)) for _ in range(2_000)]
        while len(watching) < 2_000:
            await asyncio.sleep(0.01)
        for callback in list(watching.values())[:1_000]:
            callback()
        client.hung_up.set()
        return {(await each)[0] for each in asked}

    assert run(app, ask) == {200}
    assert not watching


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("/{id}?wait=30", None),
        ("/{id}?%77ai%74=3%30", None),
        ("/{id}?wait=00030", None),
        ("/{id}?wait=30&wait=30", None),
        ("/{id}?x=wait=&wait=30", None),
        ("?ingestion_id={id}&wait=30", None),
        ("?request_id={id}&wait=30", None),
        ("?wait=30", '{{"ingestion_id": "{id}"}}'),
        ("?wait=30", '{{"request_id": "{id}"}}'),
    ],
)
def test_however_one_asks_it_waits_without_a_thread_and_is_counted_once(
    app: Flask, query: str, body: str | None
) -> None:
    accepted = app.test_client().post("/ingest", json={"ids": [1], "priority": "LOW"})
    ingestion_id = accepted.get_json()["ingestion_id"]
    asking = "GET", f"/status{query.format(id=ingestion_id)}"
    naming = body.format(id=ingestion_id).encode() if body else b""
    counts = app.extensions["http_counts"]

    async def ask(client: Client) -> set[int]:
        count = limits.POOL_THREADS + 1
        asked = [asyncio.ensure_future(client.ask(*asking, naming, JSON)) for _ in range(count)]
        while len(client.shell._waiters._waiting) < count:
            await asyncio.sleep(0.01)
        assert (await client.ask("GET", "/queue"))[0] == 200
        before = sum(counts.answered().values())
        app.test_client().post(f"/ingestions/{ingestion_id}/cancel")
        statuses = {(await each)[0] for each in asked}
        assert sum(counts.answered().values()) == before + 1 + count
        return statuses

    assert run(app, ask) == {200}


def test_nothing_is_rendered_before_a_wait(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd can come at once, and the answer can have thousands of batches."""
    rendered: list[None] = []
    status = render.status

    def rendering(*what: Any) -> Any:
        rendered.append(None)
        return status(*what)

    monkeypatch.setattr(render, "status", rendering)
    accepted = app.test_client().post("/ingest", json={"ids": [1], "priority": "LOW"})
    path = f"/status/{accepted.get_json()['ingestion_id']}?wait=30"

    async def ask(client: Client) -> int:
        asked = asyncio.ensure_future(client.ask("GET", path))
        while not client.shell._waiters._waiting:
            await asyncio.sleep(0.01)
        assert rendered == []
        client.shell.release_waiters()
        return (await asked)[0]

    assert run(app, ask) == 200
    assert len(rendered) == 1


def test_an_answer_that_is_news_does_not_wait(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        app.extensions["ingest_service"].queries, "watch", lambda *_: pytest.fail("it waits")
    )
    accepted = app.test_client().post("/ingest", json={"ids": [1], "priority": "LOW"})
    path = f"/status/{accepted.get_json()['ingestion_id']}?wait=30"

    async def ask(client: Client) -> Any:
        return await client.ask("GET", path, headers=[(b"if-none-match", b'"other"')])

    assert run(app, ask)[0] == 200


@pytest.mark.parametrize("wait", ["-1", "abc", "1e9", "61", "999999999", "%D9%A3"])
def test_a_wrong_wait_is_refused_by_the_application(app: Flask, wait: str) -> None:
    async def ask(client: Client) -> Any:
        return await client.ask("GET", f"/status/x?wait={wait}")

    assert run(app, ask)[0] == 400


def test_a_body_of_who_waits_is_not_kept(app: Flask) -> None:
    """With a few large ones there would be no room for the bodies of anybody else."""
    body = b" " * 77_777

    async def ask(client: Client) -> int:
        accepted = json.loads((await client.ask("POST", "/ingest", BODY, JSON))[2])
        path = f"/status/{accepted['ingestion_id']}?wait=60"
        waiting = asyncio.ensure_future(client.ask("GET", path, body, JSON))
        while not client.shell._waiters._waiting:
            await asyncio.sleep(0.01)
        held: int = client.shell.arrivals.held
        await asyncio.to_thread(nothing_holds, body)
        client.shell.release_waiters()
        await waiting
        return held

    with uncollected():
        assert run(app, ask) == 0
