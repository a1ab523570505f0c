"""The shell around an application: commits that are awaited, waiters without threads."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from flask import Flask, Response

from ingest_service.errors import StorageUnavailable
from ingest_service.front import bridge, limits
from ingest_service.front.arrivals import Arrival, Arrivals
from ingest_service.front.pool import Pool
from ingest_service.front.refusals import Refused
from tests.front.shells import BODY, JSON, Client, nothing_holds, run
from tests.uncollected import alive, uncollected


def _defer(app: Flask, monkeypatch: pytest.MonkeyPatch) -> "list[Future[Any]]":
    """Let the test be the disk; return what submissions wait for."""
    futures: list[Future[Any]] = []

    def accept(*_: Any) -> "Future[Any]":
        futures.append(Future())
        return futures[-1]

    monkeypatch.setattr(app.extensions["ingest_parts"].journal, "accept", accept)
    return futures


def _succeed(futures: "list[Future[Any]]") -> None:
    for future in futures:
        future.set_result(None)


def test_an_answer_waits_for_its_commit(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    futures = _defer(app, monkeypatch)

    async def ask(client: Client) -> int:
        asked = asyncio.ensure_future(client.ask("POST", "/ingest", BODY))
        done, _ = await asyncio.wait((asked,), timeout=0.2)
        assert not done
        assert (await client.ask("GET", "/health"))[0] == 200
        futures[0].set_result(None)
        return (await asked)[0]

    assert run(app, ask) == 200


def test_a_commit_that_fails_is_answered_in_its_words(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    futures = _defer(app, monkeypatch)

    async def ask(client: Client) -> Any:
        asked = asyncio.ensure_future(client.ask("POST", "/ingest", BODY))
        await asyncio.sleep(0.05)
        futures[0].set_exception(StorageUnavailable("The disk is full."))
        return await asked

    status, headers, body = run(app, ask)
    assert status == 503
    assert headers["retry-after"] == "5"
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-request-id"]
    assert b"The disk is full." in body


def test_an_answer_is_counted_when_its_commit_has_returned_and_once(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    futures, counts = _defer(app, monkeypatch), app.extensions["http_counts"]

    async def ask(client: Client) -> None:
        asked = [asyncio.ensure_future(client.ask("POST", "/ingest", BODY)) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert counts.answered() == {}
        futures[0].set_result(None)
        futures[1].set_exception(StorageUnavailable("The disk is full."))
        await asyncio.gather(*asked)

    run(app, ask)
    assert counts.answered() == {("/ingest", "POST", 200): 1, ("/ingest", "POST", 503): 1}
    ((_, (buckets, _)),) = counts.durations().items()
    assert sum(buckets) == 2


def test_a_group_wakes_the_loop_once(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    futures = _defer(app, monkeypatch)

    async def ask(client: Client) -> list[int]:
        asked = [asyncio.ensure_future(client.ask("POST", "/ingest", BODY)) for _ in range(50)]
        await asyncio.sleep(0.2)
        await asyncio.to_thread(_succeed, futures)
        return [(await each)[0] for each in asked]

    assert run(app, ask) == [200] * 50


def test_too_many_requests_are_refused(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "POOL_WAITING", -limits.POOL_THREADS)

    async def ask(client: Client) -> Any:
        return await client.ask("GET", "/queue")

    status, headers, body = run(app, ask)
    assert status == 503
    assert headers["retry-after"] == "1"
    assert b"/problems/not-ready" in body


def test_the_threads_are_there_before_the_first_crowd() -> None:
    """Their number tells nothing then, and does not grow."""

    async def run() -> int:
        pool = Pool(asyncio.get_running_loop(), 3, 0)
        threads = len(pool._executor._threads)
        pool.close()
        return threads

    assert asyncio.run(run()) == 3


def test_what_the_server_waits_for_in_vain_is_a_timeout_and_counted(app: Flask) -> None:
    """It has a clock of its own, and says that somebody has gone who is there."""

    async def ask(client: Client) -> int:
        client.hung_up.set()
        length = (b"content-length", b"5")
        return (await client.ask("POST", "/ingest", headers=[length, *JSON]))[0]

    assert run(app, ask) == 408
    assert app.extensions["http_counts"].answered() == {("none", "POST", 408): 1}


def test_names_of_fields_are_remembered_if_they_are_short() -> None:
    before = len(bridge._names)
    for letter in (b"a", b"b"):
        assert bridge._name(letter * 60_000) == "HTTP_" + letter.decode().upper() * 60_000
    assert len(bridge._names) == before


def test_nothing_is_begun_for_who_has_gone(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[None] = []
    app.before_request(lambda: ran.append(None))

    async def ask(client: Client) -> None:
        client.connection.gone = True
        with pytest.raises(ValueError, match="not enough"):
            await client.ask("GET", "/queue")

    run(app, ask)
    assert ran == []


def test_the_body_of_who_has_gone_is_let_go(app: Flask) -> None:
    body = b" " * 77_777

    async def ask(client: Client) -> None:
        client.connection.gone = True
        # There is no answer; what `pytest.raises` has seen it would keep.
        with suppress(ValueError):
            await client.ask("POST", "/queue/pause", body, JSON)
            pytest.fail("it was answered")

    with uncollected():
        run(app, ask)
        nothing_holds(body)


def test_a_body_is_not_kept_while_its_answer_is_taken(app: Flask) -> None:
    """There are clients that take it slowly."""
    body = b" " * 77_777

    async def ask(client: Client) -> int:
        client.takes = partial(nothing_holds, body)
        status, _, _ = await client.ask("POST", "/ingest", body, JSON)
        return status

    with uncollected():
        assert run(app, ask) == 400


def test_a_body_that_comes_in_pieces_is_held_once() -> None:
    """Whatever reads it shares it; one that could grow would be copied."""
    pieces = [b"body", b"some "]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": pieces.pop(), "more_body": bool(pieces)}

    async def read() -> bytes:
        return await Arrivals(100, asyncio.get_running_loop()).read(receive, arrived=False)

    body = asyncio.run(read())
    assert (type(body), body) == (bytes, b"some body")


def test_what_comes_of_a_body_that_was_refused_finds_nobody_to_make_room() -> None:
    """It was the only one."""

    async def run() -> str:
        arrivals = Arrivals(100, asyncio.get_running_loop())
        arrivals.held = 10**9

        async def receive() -> dict[str, Any]:
            arrivals.refuse_oldest()
            return {"type": "http.request", "body": b"more", "more_body": True}

        with pytest.raises(Refused) as refused:
            await arrivals.read(receive, arrived=False)
        return refused.value.slug

    assert asyncio.run(run()) == "not-ready"


def test_what_had_arrived_of_a_refused_body_is_let_go() -> None:
    async def run() -> list[Arrival]:
        arrivals, pieces = Arrivals(100, asyncio.get_running_loop()), [b"some"]

        async def receive() -> dict[str, Any]:
            if not pieces:
                assert arrivals.refuse_oldest()
                await asyncio.Event().wait()
            return {"type": "http.request", "body": pieces.pop(), "more_body": True}

        with suppress(Refused):
            await arrivals.read(receive, arrived=False)
            pytest.fail("it was read")
        await asyncio.sleep(0)
        return alive(Arrival)

    with uncollected():
        assert asyncio.run(run()) == []


def test_what_only_the_disk_knows_holds_up_nobody(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop goes on while the journal is asked for what memory does not have."""
    journal = app.extensions["ingest_parts"].journal
    asked, answer = threading.Event(), threading.Event()

    def find(*_: Any) -> None:
        asked.set()
        assert answer.wait(20)

    monkeypatch.setattr(journal, "find", find)

    async def ask(client: Client) -> list[int]:
        reads = [
            asyncio.ensure_future(client.ask("GET", f"/status/gone{query}"))
            for query in ("", "?wait=5")
        ]
        await asyncio.to_thread(asked.wait, 20)
        assert (await client.ask("GET", "/health"))[0] == 200
        assert not any(each.done() for each in reads)
        answer.set()
        return [(await each)[0] for each in reads]

    assert run(app, ask) == [404, 404]


def test_whoever_fetches_a_lot_leaves_threads_to_those_who_ask(app: Flask) -> None:
    """As many streams as there are threads, whose parts take for ever."""
    begun, go_on = threading.Semaphore(0), threading.Event()

    def parts() -> Iterator[bytes]:
        begun.release()
        assert go_on.wait(20)
        yield b"x"

    app.add_url_rule("/stream", view_func=lambda: Response(parts()))

    async def ask(client: Client) -> list[int]:
        streams = [
            asyncio.ensure_future(client.ask("GET", "/stream")) for _ in range(limits.POOL_THREADS)
        ]
        await asyncio.to_thread(begun.acquire)
        key = [(b"idempotency-key", b"1"), (b"content-type", b"application/json")]
        statuses = [(await client.ask("POST", "/ingest", BODY, key))[0]]
        assert not any(stream.done() for stream in streams)
        go_on.set()
        return statuses + [(await stream)[0] for stream in streams]

    assert run(app, ask) == [200] * (1 + limits.POOL_THREADS)
