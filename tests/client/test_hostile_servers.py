"""Whatever a server does: a clear error, in time, and little memory."""

import math
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ingest_service.client import BadAnswer, IngestClient, IngestError, Refused, Unreachable
from ingest_service.client import connection as connection_module
from ingest_service.client import transport as transport_module
from tests.realtime import (
    GUARD,
    Reply,
    Request,
    Scripted,
    answer,
    cut,
    drip,
    reset,
    self_signed,
    silence,
)

STATUS: dict[str, Any] = {
    "ingestion_id": "x",
    "status": "completed",
    "priority": "LOW",
    "progress": 100,
    "counts": {
        "total": 1, "queued": 0, "in_flight": 0, "succeeded": 1, "failed": 0, "cancelled": 0,
    },
    "created_at": "2026-01-01T12:00:00Z",
    "started_at": None,
    "finished_at": None,
    "outcome": "succeeded",
    "queue": None,
    "eta": None,
    "why_waiting": None,
}  # fmt: skip
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def asked(reply: Reply, **options: Any) -> Any:
    """Return the status that a client reads from `reply`."""
    with Scripted(lambda _: reply) as server:
        return ask(server, **options)


def ask(server: Scripted, **options: Any) -> Any:
    settings = {"patience": 0.0, "timeout": 5.0} | options
    with IngestClient(f"http://127.0.0.1:{server.port}", **settings) as client:
        return client.status("x")


def test_keys_that_nobody_knows_break_nothing() -> None:
    more = {**STATUS, "new": {"a": [1]}, "counts": {**STATUS["counts"], "new": 3}}
    assert asked(answer(200, more)).progress == 100


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("progress", "100", "/progress should be a whole number"),
        ("progress", True, "/progress should be a whole number"),
        ("progress", None, "/progress should be a whole number"),
        ("status", 1, "/status should be a text"),
        ("counts", [], "/counts should be an object"),
        ("counts", {"total": 1.5}, "/counts/total should be a whole number"),
        ("created_at", "yesterday", "/created_at should be a time"),
        ("created_at", "2026-01-01T12:00:00", "/created_at should be a time"),
        # No time at all in some places of the world.
        ("created_at", "0001-01-01T00:00:00Z", "/created_at should be a time"),
        ("created_at", "9999-12-31T23:59:59Z", "/created_at should be a time"),
        ("eta", {"finish_at": 12}, "/finish_at should be a text"),
    ],
)
def test_a_wrong_type_is_named(key: str, value: object, told: str) -> None:
    with pytest.raises(BadAnswer, match=told):
        asked(answer(200, {**STATUS, key: value}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>hello</html>",
        b"[" * 100_000,
        b'{"progress": ' + b"9" * 1_000_000 + b"}",
        b'{"progress": 1e999999}',
        b'"\xff\xfe"',
        b'"\\ud800"',
        b"null",
        b"[1]",
        b'"text"',
    ],
    ids=lambda body: repr(body[:14]),
)
def test_what_is_no_status_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        asked(answer(200, body))


@pytest.mark.parametrize("body", [b"", b"<p>", b"[]", b'{"detail": 3, "errors": 7}', b"9" * 10**6])
@pytest.mark.parametrize("status", [400, 401, 413, 431, 502, 503])
def test_a_refusal_of_a_proxy_is_one_without_a_problem_document(status: int, body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        asked(answer(status, body))
    assert caught.value.problem.status == status
    assert str(status) in str(caught.value)


PROBLEM = {"type": "about:blank", "title": "t", "status": 404, "detail": "d"}


@pytest.mark.parametrize("status", [404, 409, 500, 999])
def test_an_error_of_another_server_is_none_of_the_service(status: int) -> None:
    bodies: list[object] = [b"", b"<p>", [], {"detail": "Not Found"}]
    replies = [answer(status, body) for body in bodies]
    for reply in (*replies, answer(status, PROBLEM, Content_Type="text/html")):
        with pytest.raises(BadAnswer, match=f"{status} .*not this service"):
            asked(reply)
    with pytest.raises(Refused, match="d"):
        asked(answer(status, PROBLEM, Content_Type="application/problem+json"))


def test_a_redirect_is_not_followed() -> None:
    """Least of all with a key."""
    with Scripted(lambda _: answer(200, STATUS)) as other:
        there = f"http://127.0.0.1:{other.port}/"
        with pytest.raises(BadAnswer, match="redirects are not followed"):
            asked(answer(307, {}, Location=there), key="ik_secret")
        assert other.requests == []


def test_an_answer_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "MAX_ANSWER", 10 * 2**20)

    def endless(connection: socket.socket) -> bool:
        connection.sendall(CHUNKED)
        while True:
            connection.sendall(b"10000\r\n" + b"x" * 2**16 + b"\r\n")

    tracemalloc.start()
    with pytest.raises(BadAnswer, match="larger than"):
        asked(endless)
    assert tracemalloc.get_traced_memory()[1] < 60 * 2**20
    tracemalloc.stop()


def flood(text: bytes) -> Reply:
    """Return what sends `text` again and again, as fast as it goes."""

    def act(connection: socket.socket) -> bool:
        while True:
            connection.sendall(text)

    return act


SLOW: dict[str, Reply] = {
    "says nothing": silence,
    "drips a head": drip(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 60_000, 0.05),
    "drips a body": drip(CHUNKED + b"1\r\n{\r\n" * 1_000, 0.05),
    "drips the length of a chunk": drip(CHUNKED + b"1;" + b"y" * 60_000, 0.05),
    "drips trailers": drip(CHUNKED + b"0\r\n" + b"X: y\r\n" * 1_000, 0.05),
    "announces an answer for ever": flood(b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000),
}


# Each would be waited for longer than that.
@pytest.mark.timeout(30)
@pytest.mark.parametrize("reply", SLOW)
def test_an_answer_that_does_not_come_is_given_up(reply: str) -> None:
    with pytest.raises(IngestError):
        asked(SLOW[reply], timeout=0.5)


@pytest.mark.timeout(30)
def test_an_error_that_does_not_come_is_given_up() -> None:
    head = b"HTTP/1.1 503 No\r\nContent-Length: 60000\r\n\r\n"
    with pytest.raises(IngestError):
        asked(drip(head + b" " * 60_000, 0.05), timeout=0.5)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("reply", [name for name in SLOW if name != "drips a body"])
def test_a_stream_of_which_nothing_more_comes_is_given_up(reply: str) -> None:
    """For what comes slowly there is no hurry."""
    with (
        Scripted(lambda _: SLOW[reply]) as server,
        IngestClient(f"http://127.0.0.1:{server.port}", timeout=0.5, patience=0) as client,
        pytest.raises(IngestError),
    ):
        list(client.results_text("x", "csv", None))


def test_a_stream_takes_as_long_as_it_takes() -> None:
    """Longer than the time-out in all, and much less from one piece to the next."""
    lines = drip(b"1\r\n\n\r\n" * 25 + b"0\r\n\r\n", 0.01)

    def head_first(connection: socket.socket) -> bool:
        connection.sendall(CHUNKED)
        return lines(connection)

    with (
        Scripted(lambda _: head_first) as server,
        IngestClient(f"http://127.0.0.1:{server.port}", timeout=1, patience=0) as client,
    ):
        assert b"".join(client.results_text("x", "csv", None)) == b"\n" * 25


@pytest.mark.timeout(30)
def test_the_same_holds_for_what_is_encrypted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, tls = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    replies = iter((answer(200, STATUS), SLOW["drips a head"]))
    with (
        Scripted(lambda _: next(replies), tls=tls) as server,
        IngestClient(f"https://127.0.0.1:{server.port}", timeout=2, patience=0) as client,
    ):
        assert client.status("x").progress == 100
        with pytest.raises(Unreachable, match="timed out"):
            client.status("x")
    assert server.connections == 1


class Busy(Scripted):
    """One that takes its time before it reads."""

    def _respond(self, connection: socket.socket, stream: Any) -> bool:
        time.sleep(0.3)
        return super()._respond(connection, stream)


def test_sending_may_take_longer_than_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a slow line; more than this the sockets do not hold."""
    monkeypatch.setattr(connection_module, "CONNECT_SECONDS", 0.1)
    with (
        Busy(lambda _: answer(200, {})) as server,
        IngestClient(f"http://127.0.0.1:{server.port}", patience=0) as client,
    ):
        for _ in range(2):
            with pytest.raises(BadAnswer):
                client.pause("x" * 2**24)


@pytest.mark.timeout(30)
def test_a_body_that_nobody_reads_is_given_up() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as deaf,
        IngestClient(
            f"http://127.0.0.1:{deaf.getsockname()[1]}", timeout=0.5, patience=0
        ) as client,
        pytest.raises(Unreachable),
    ):
        client.pause("x" * 2**24)


BROKEN: dict[str, Reply] = {
    "reset": reset,
    "closed": cut(b""),
    "another protocol": cut(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "no status": cut(b"HTTP/1.1 abc\r\n\r\n"),
    "half a body": cut(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
    "half a chunk": cut(CHUNKED + b"5\r\n{"),
    "no chunk": cut(CHUNKED + b"zz\r\n{"),
    "a long header": cut(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000),
    "many headers": cut(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000),
    "a negative length": cut(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{"),
}


@pytest.mark.parametrize("reply", BROKEN)
def test_a_broken_connection_is_said_to_be_broken(reply: str) -> None:
    with pytest.raises((Unreachable, BadAnswer)):
        asked(BROKEN[reply])


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ("reset", "Connection reset by peer"),
        ("closed", "it has hung up without an answer"),
        ("another protocol", "what it answers is not HTTP (SSH-2.0-OpenSSH_9.9)"),
        ("a long header", "what it answers is not HTTP (got more than 65536 bytes when reading "
         "header line)"),
        ("half a body", "the answer was cut off"),
        ("half a chunk", "the answer was cut off"),
    ],
)  # fmt: skip
def test_why_a_connection_broke_is_told_in_words(reply: str, told: str) -> None:
    with Scripted(lambda _: BROKEN[reply]) as server, pytest.raises(Unreachable) as caught:
        ask(server)
    assert str(caught.value) == f"http://127.0.0.1:{server.port}: {told}."


@contextmanager
def plain() -> Iterator[int]:
    """Give the port of a server that encrypts nothing, whatever it is sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(GUARD)


def test_why_nothing_is_encrypted_is_told_in_words(tmp_path: Path) -> None:
    _, tls = self_signed(tmp_path)
    told = []
    with Scripted(lambda _: answer(200, STATUS), tls=tls) as server, plain() as port:
        for url in (f"https://127.0.0.1:{server.port}", f"https://127.0.0.1:{port}"):
            with IngestClient(url, patience=0) as client, pytest.raises(Unreachable) as caught:
                client.status("x")
            told.append(str(caught.value).removeprefix(url))
    assert told == [
        ": its certificate is not trusted: self-signed certificate.",
        ": https does not work with it (wrong version number).",
    ]


def test_hostile_results_are_a_clear_error() -> None:
    lines: Callable[[bytes], Reply] = lambda text: answer(200, text)  # noqa: E731
    for text in (b"[1]\n", b'{"id": "1"}\n', b"9" * 10_000 + b"\n", b"{}\n"):
        with Scripted(lambda _, text=text: lines(text)) as server:  # type: ignore[misc]
            client = IngestClient(f"http://127.0.0.1:{server.port}", patience=0)
            with pytest.raises(BadAnswer):
                list(client.results("x"))


def test_a_list_that_never_ends_by_its_cursor_ends() -> None:
    page = {"ingestions": [], "next_cursor": "again"}
    with Scripted(lambda _: answer(200, page)) as server:
        client = IngestClient(f"http://127.0.0.1:{server.port}", patience=0)
        assert list(client.ingestions()) == []
    assert len(server.requests) == 2


def test_a_key_is_sent_as_a_bearer_token() -> None:
    def reply(request: Request) -> bytes:
        return answer(200, {**STATUS, "status": request.headers["authorization"]})

    with Scripted(reply) as server:
        assert ask(server, key="ik_12345678_abc").status == "Bearer ik_12345678_abc"


@pytest.mark.parametrize("key", ["", "a b", "a\r\nX: y", "käse"])
def test_what_cannot_be_a_key_is_not_sent(key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        IngestClient(key=key)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf, 1e300])
def test_what_is_no_time_out_is_refused_at_once(seconds: float) -> None:
    with pytest.raises(ValueError, match="time-out"):
        IngestClient(timeout=seconds)


def test_what_has_no_end_is_no_patience() -> None:
    with pytest.raises(ValueError, match="patience"):
        IngestClient(patience=math.nan)


def test_nobody_waits_for_what_is_no_number() -> None:
    with (
        Scripted(lambda _: answer(200, {**STATUS, "outcome": None})) as server,
        IngestClient(f"http://127.0.0.1:{server.port}") as client,
        pytest.raises(ValueError, match="time-out"),
    ):
        client.ingestion("x").wait(timeout=math.nan)
    assert server.requests == []


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://host", "http://", "http://u:p@host", "http://h:99999", "http://[",
     "http://host/?q=1"],
)  # fmt: skip
def test_what_is_no_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        IngestClient(url)
