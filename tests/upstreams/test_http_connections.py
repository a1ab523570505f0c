"""Connections after surprises: nobody ever gets the answer of another request."""

import contextlib
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_service.upstreams.answer import MOST_INTERIM
from ingest_service.upstreams.http import ItemConnector
from tests.realtime import (
    GUARD,
    Act,
    Reply,
    Request,
    Scripted,
    answer,
    cut,
    reset,
    running,
    silence,
)
from tests.upstreams.calls import batch_of, client
from tests.upstreams.replies import OK, first

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"


def own(request: Request) -> bytes:
    """Answer with what was asked for."""
    return answer(200, request.target)


@pytest.mark.parametrize("status", [100, 102, 103, 150, 199])
def test_interim_answers_are_skipped(status: int) -> None:
    """Any of them, several too; and the connection stays in step."""
    interim = f"HTTP/1.1 {status} Wait\r\nX: y\r\n\r\n".encode() * 2
    with (
        Scripted(lambda request: interim + own(request)) as server,
        running(server.items, batch_size_ids=1) as service,
    ):
        outcomes = service.finish(service.send(range(1, 6)))

    assert [outcome.processed_data for outcome in outcomes] == [f"/items/{n}" for n in range(1, 6)]
    assert [outcome.attempts for outcome in outcomes] == [1] * 5
    assert server.connections == 1


def test_an_interim_answer_in_pieces_is_skipped() -> None:
    """Wherever it is cut."""
    numbers = itertools.count()

    def reply(request: Request) -> Reply:
        text = HINTS + own(request)
        where = next(numbers) * 9 + 1

        def act(connection: object) -> bool:
            connection.sendall(text[:where])  # type: ignore[attr-defined]
            connection.sendall(text[where:])  # type: ignore[attr-defined]
            return True

        return act

    with Scripted(reply) as server, running(server.items, batch_size_ids=1) as service:
        outcomes = service.finish(service.send(range(1, 9)))

    assert [outcome.processed_data for outcome in outcomes] == [f"/items/{n}" for n in range(1, 9)]


def test_switching_protocols_fails_the_item_and_ends_the_connection() -> None:
    """Nobody asked for it, and what follows is not HTTP."""
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"
    with Scripted(first(switch + OK)) as server, running(server.items) as service:
        bad, good = (service.finish(service.send([n]))[0] for n in (1, 2))

    assert (bad.succeeded, bad.status_code, bad.attempts) == (False, 101, 1)
    assert good.processed_data == {"fine": True}
    assert server.connections == 2


def test_a_flood_of_interim_answers_is_cut_off_and_tried_again() -> None:
    """Without waiting for its end."""
    flood = HINTS * (MOST_INTERIM + 1) + OK
    with Scripted(first(flood)) as server, running(server.items) as service:
        (outcome,) = service.finish(service.send([1]))

    assert (outcome.succeeded, outcome.attempts) == (True, 2)
    assert server.connections == 2


@pytest.mark.parametrize(
    "reply",
    [
        OK + answer(200, "somebody else's"),
        OK + b"\r\n",
        answer(404) + answer(200, "somebody else's"),
        b"HTTP/1.1 204 No Content\r\n\r\n" + b"a body",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n7\r\n0\r\n\r\nmore",
    ],
    ids=["two-answers", "line-end", "two-after-refusal", "body-of-204", "after-chunks"],
)
def test_a_connection_with_something_left_over_is_not_used_again(reply: bytes) -> None:
    """It would be taken for the next answer, or a part of it."""
    replies = itertools.chain([reply], itertools.repeat(answer(200, "own")))
    with (
        Scripted(lambda _: next(replies)) as server,
        running(server.items, batch_size_ids=1) as service,
    ):
        service.finish(service.send([1]))
        (outcome,) = service.finish(service.send([2]))

    assert (outcome.processed_data, outcome.attempts) == ("own", 1)
    assert server.connections == 2


def test_what_is_left_over_inside_of_tls_is_noticed_too(
    certificate: tuple[Path, ssl.SSLContext],
) -> None:
    """It was decrypted already, so the socket itself has nothing to read."""
    replies = itertools.chain([answer(200, b"x" * 9_000, Content_Type="text/plain") + OK])
    with (
        Scripted(lambda _: next(replies, answer(200, "own")), tls=certificate[1]) as server,
        running(server.items, upstream_ca=str(certificate[0])) as service,
    ):
        service.finish(service.send([1]))
        (outcome,) = service.finish(service.send([2]))

    assert (outcome.processed_data, outcome.attempts) == ("own", 1)
    assert server.connections == 2


@pytest.mark.parametrize(
    "act",
    [silence, reset, cut(b""), cut(b"HTTP/1.1 400 No\r\n\r\n")],
    ids=["silence", "reset", "end", "no-tls"],
)
def test_nothing_was_sent_if_there_is_no_handshake(act: Act) -> None:
    """So it counts as an API that cannot be reached."""
    with listening(act) as port:
        (outcome,) = ItemConnector(client(0.5), f"https://127.0.0.1:{port}/{{id}}")(batch_of(1))

    assert (outcome.transient, outcome.unreachable) == (True, True)


def test_something_was_sent_if_the_answer_is_cut_off_inside_of_tls(
    certificate: tuple[Path, ssl.SSLContext],
) -> None:
    """So it may have been done."""
    with Scripted(lambda _: reset, tls=certificate[1]) as server:
        connector = ItemConnector(client(upstream_ca=str(certificate[0])), server.items)
        (outcome,) = connector(batch_of(1))

    assert (outcome.transient, outcome.unreachable) == (True, False)


def test_a_proxy_that_answers_late_leaves_less_time_to_what_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half of it all together, so that it is known in time that nothing was sent."""
    left: list[float | None] = []

    def wrap(_: ssl.SSLContext, sock: socket.socket, *args: object, **kwargs: object) -> None:
        left.append(sock.gettimeout())
        raise ssl.SSLError

    def late(connection: socket.socket) -> bool:
        time.sleep(0.3)
        return cut(b"HTTP/1.1 200 Connected\r\n\r\n")(connection)

    with listening(late) as port:
        sender = client(4.0, upstream_proxy=f"http://127.0.0.1:{port}")
        connector = ItemConnector(sender, "https://upstream.invalid/{id}")
        monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrap)
        (outcome,) = connector(batch_of(1))

    assert outcome.unreachable
    assert 0 < (left[0] or 0) < 2 - 0.2


@contextlib.contextmanager
def listening(act: Act) -> Iterator[int]:
    """Take one connection, hear something, and do what `act` does; give the port."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1)
            act(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(GUARD)


def test_an_answer_that_ends_the_connection_is_read_as_ever() -> None:
    """The last bytes come with the end."""
    with Scripted(lambda request: cut(own(request))) as server, running(server.items) as service:
        outcomes = service.finish(service.send([1, 2, 3]))

    assert [outcome.processed_data for outcome in outcomes] == ["/items/1", "/items/2", "/items/3"]
