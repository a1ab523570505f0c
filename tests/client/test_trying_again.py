"""What is tried again, for how long, and what is not."""

import socket
from collections.abc import Callable
from contextlib import suppress

import pytest

from ingest_service.client import (
    Busy,
    IngestClient,
    IngestError,
    Items,
    Part,
    TimedOut,
    Unreachable,
    transport,
)
from tests.client.support import QuickClock
from tests.client.test_hostile_servers import STATUS
from tests.realtime import Reply, Request, Scripted, answer, drip, reset, silence
from tests.uncollected import alive, uncollected
from tests.upstreams.replies import OK

QUEUE = answer(200, {"state": "running"})
ACCEPTED = answer(200, {"ingestion_id": "x"})
BUSY = answer(503, {"detail": "full"}, Retry_After="7")


def replies(*each: Reply) -> Callable[[Request], Reply]:
    """Answer with one after the other, but always tell the limits."""
    left = iter(each)
    return lambda request: answer(200, {}) if request.target == "/health" else next(left)


def client_of(server: Scripted, patience: float = 60.0) -> tuple[IngestClient, QuickClock]:
    """Return a client for which waiting takes no time."""
    clock = QuickClock()
    url = f"http://127.0.0.1:{server.port}"
    return IngestClient(url, clock=clock, patience=patience), clock


def test_a_submission_is_repeated_with_its_key_and_its_body() -> None:
    with Scripted(replies(reset, reset, BUSY, ACCEPTED)) as server:
        client, clock = client_of(server)
        assert client.submit(ids=[1, 2], priority="LOW").ingestion_id == "x"
    posts = [request for request in server.requests if request.method == "POST"]
    assert len(posts) == 4
    assert len({(request.key, request.body) for request in posts}) == 1
    assert clock.slept[-1] == 7.0


@pytest.mark.parametrize("reply", [reset, silence, b"nonsense\r\n\r\n", None])
def test_a_body_that_could_not_be_sent_is_let_go(reply: Reply | None) -> None:
    """A script may go on for days."""

    def submit(port: int) -> None:
        client = IngestClient(f"http://127.0.0.1:{port}", timeout=0.5, patience=0)
        with client, suppress(IngestError):
            client._submit(Part(b"{}", 1), "key")
            pytest.fail("it was accepted")

    with Scripted(lambda _: reply or OK) as server, uncollected():
        submit(1 if reply is None else server.port)
        assert alive(transport.Request) == []


def test_a_body_that_was_sent_is_let_go_before_its_ingestion_is_followed() -> None:
    with Scripted(replies(ACCEPTED, ACCEPTED)) as server, uncollected():
        client, _ = client_of(server)
        items = Items.of(range(10_000), None)
        for _ in client.submit_parts(items, priority="LOW"):
            assert alive(Part) == []


def test_questions_are_repeated_until_patience_ends() -> None:
    with Scripted(lambda _: reset) as server:
        client, clock = client_of(server, patience=20.0)
        with pytest.raises(Unreachable):
            client.status("x")
    assert 5 < len(clock.slept) < 20
    assert sum(clock.slept) <= 20


@pytest.mark.parametrize("after", ["0", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_who_may_come_again_at_once_does_not_come_all_the_time(after: str) -> None:
    with Scripted(lambda _: answer(503, {"detail": "full"}, Retry_After=after)) as server:
        client, clock = client_of(server, patience=20.0)
        with pytest.raises(Busy):
            client.status("x")
    assert 5 < len(clock.slept) < 20


def test_who_should_come_again_too_late_is_told_at_once() -> None:
    with Scripted(lambda _: answer(429, {"detail": "slowly"}, Retry_After="3600")) as server:
        client, clock = client_of(server)
        with pytest.raises(Busy, match="slowly") as caught:
            client.status("x")
    assert (caught.value.retry_after, clock.slept) == (3600.0, [])


def test_what_the_service_will_never_take_is_not_sent_again() -> None:
    """It says of every other 429 when to come again; a proxy may leave that out."""
    never = {"type": "/problems/too-many-requests", "title": "t", "detail": "Send fewer."}
    for document, tried_again in ((never, False), ({"detail": "slowly"}, True), (b"", True)):
        with Scripted(replies(*[answer(429, document)] * 99)) as server:
            client, clock = client_of(server, patience=2.0)
            with pytest.raises(Busy) as caught:
                client.submit(ids=[1], priority="LOW")
        assert (bool(clock.slept), caught.value.uncertain) == (tried_again, False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("5", 5.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("-1", None), ("9" * 50, None),
     ("soon", None), ("Thu, 01 Jan 99999 00:00:00 GMT", None),
     (f"Thu, 01 Jan {'9' * 50} 00:00:00 GMT", None),
     (f"Thu, 01 Jan 2026 00:00:00 +{'9' * 50}", None)],
)  # fmt: skip
def test_retry_after_is_read_with_care(value: str, expected: float | None) -> None:
    with Scripted(lambda _: answer(503, {}, Retry_After=value)) as server:
        client, _ = client_of(server, patience=-1.0)
        with pytest.raises(Busy) as caught:
            client.queue()
    assert caught.value.retry_after == expected


def test_what_may_have_happened_is_not_done_twice() -> None:
    """To retry, and to move, answer differently the second time."""
    acts: list[Callable[[IngestClient], object]] = [
        lambda client: client.retry("x"),
        lambda client: client.move("x", "HIGH"),
    ]
    for act in acts:
        with Scripted(lambda _: reset) as server:
            client, clock = client_of(server)
            with pytest.raises(Unreachable):
                act(client)
        assert (len(server.requests), clock.slept) == (1, [])


def test_a_submission_that_is_given_up_tells_its_key() -> None:
    with Scripted(replies(*[reset] * 100)) as server:
        client, _ = client_of(server, patience=2.0)
        with pytest.raises(IngestError) as caught:
            client.submit(ids=[1], priority="LOW")
    assert caught.value.key == server.requests[-1].key


def test_whoever_waits_is_told_why() -> None:
    told: list[str] = []
    with Scripted(replies(BUSY, answer(200, STATUS))) as server:
        url = f"http://127.0.0.1:{server.port}"
        client = IngestClient(
            url, clock=QuickClock(), on_retry=lambda why, wait: told.append(f"{why} {wait:g}")
        )
        client.status("x")
    assert told == ["full 7"]


def test_whoever_waits_for_so_long_does_not_wait_for_longer() -> None:
    """Neither for those who are away, nor for those who say when to come again."""
    for reply in (reset, BUSY):
        with Scripted(lambda _, reply=reply: reply) as server:  # type: ignore[misc]
            client, clock = client_of(server)
            with pytest.raises(TimedOut, match="not finished after 2 s"):
                client.ingestion("x").wait(timeout=2)
        assert 1.5 < sum(clock.slept) <= 2


# The client itself would wait for a minute.
@pytest.mark.timeout(30)
def test_a_time_out_is_also_one_of_an_answer_that_does_not_come() -> None:
    def late(connection: socket.socket) -> bool:
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", 0.012)(connection)
        return silence(connection)

    head = drip(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 60_000, 0.012)
    for reply in (silence, late, head):
        with Scripted(lambda _, reply=reply: reply) as server:  # type: ignore[misc]
            client = IngestClient(f"http://127.0.0.1:{server.port}", timeout=60)
            with pytest.raises(TimedOut):
                client.ingestion("x").wait(timeout=0.6)


def test_an_unchanged_status_costs_one_request_a_minute() -> None:
    """A service that holds nothing back says when to come again."""
    unchanged = answer(304, b"", Retry_After="30", ETag='"1"')
    waiting = answer(200, {**STATUS, "outcome": None}, ETag='"1"')
    with Scripted(replies(waiting, *[unchanged] * 10, answer(200, STATUS))) as server:
        client, clock = client_of(server)
        assert len(list(client.follow("x"))) == 2
    assert clock.slept.count(30.0) == 10
    assert [request.target for request in server.requests[:2]] == [
        "/status/x?limit=1", "/status/x?limit=1&wait=60",
    ]  # fmt: skip
    assert server.requests[1].headers["if-none-match"] == '"1"'
