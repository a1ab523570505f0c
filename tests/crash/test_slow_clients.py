"""Clients that are slow, rude or broken are answered in words and hold up nobody else."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ingest_service.front.limits import MAX_HEAD
from tests.crash.raw import Raw, chunked, head, ids, post, problem, slowest
from tests.crash.server import Server

MAX_BODY = 1_000_000
#: More than there are threads to serve requests.
CROWD = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder for all servers of this module."""
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    """Give the port of a server with the deadlines it has in production."""
    yield from _serving(folder, "server")


@pytest.fixture(scope="module")
def hasty_port(folder: Path) -> Iterator[int]:
    """Give the port of a server that gives a head one second, and a body another."""
    yield from _serving(folder, "hasty", "-c", str(Path(__file__).parent / "hasty_conf.py"))


def _serving(folder: Path, name: str, *options: str) -> Iterator[int]:
    server = Server(folder / f"{name}.journal", folder / f"{name}.log", *options, max_body=MAX_BODY)
    server.start()
    try:
        yield server.port
        assert server.stop() == 0
        assert "Traceback" not in server.logged()
    finally:
        server.kill()


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    """Give a stack of connections that are closed after the test."""
    with ExitStack() as stack:
        yield stack


def test_slow_clients_hold_up_nobody(port: int, crowd: ExitStack) -> None:
    """268 connections of four rude kinds: health within a second, always, and a POST works."""
    with Raw(port) as client:
        client.send(post(ids(9_000)))
        ingestion_id = client.answer().json()["ingestion_id"]
    done = threading.Event()
    trickling = []
    for _ in range(200):
        crowd.enter_context(Raw(port))
    for _ in range(40):
        crowd.enter_context(Raw(port)).send(b"GET /health HTTP/1.1\r\nHost: loc")
    for _ in range(8):
        client = crowd.enter_context(Raw(port))
        client.send(head("POST", "/ingest", "Content-Length: 1000"))
        trickling.append(client)
    for _ in range(20):
        # A large answer, and no room for it.
        client = crowd.enter_context(Raw(port, receive_buffer=4096))
        client.send(head("GET", f"/status/{ingestion_id}"))

    def trickle() -> None:
        while not done.wait(0.5):
            for client in trickling:
                client.send(b" ")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        assert slowest(port) < 1.0
        with Raw(port) as client:
            client.send(post(ids(3)))
            assert client.answer().status == 200
    finally:
        done.set()
        thread.join()


_BIG_HEAD = b"GET / HTTP/1.1\r\n" + b"".join(
    b"X-%d: %b\r\n" % (n, b"x" * 8_000) for n in range(MAX_HEAD // 8_000 + 1)
)


@pytest.mark.parametrize(
    "rudeness",
    [
        pytest.param(head("GET", "/health") + b"GET /hea", id="half a request behind a whole one"),
        pytest.param(post(ids(3)) + post(ids(3))[:-3], id="half a body behind a whole request"),
        pytest.param(_BIG_HEAD, id="a long head without an end"),
        pytest.param(head("GET", "/health", "Content-Length: 99999999"), id="an unread body"),
        pytest.param(head("GET", "/nowhere", "Content-Length: 99999999"), id="nowhere"),
        pytest.param(head("PUT", "/ingest", "Content-Length: 99999999"), id="wrong method"),
        pytest.param(
            head("POST", "/ingest", "Transfer-Encoding: chunked") + b"1_0\r\nx", id="odd chunk"
        ),
        pytest.param(
            head("POST", "/ingest", "Transfer-Encoding: chunked") + b"f" * 17 + b"\r\nx",
            id="endless chunk",
        ),
        pytest.param(
            head("POST", "/ingest", "Transfer-Encoding: chunked") + b"5;" + b"x" * MAX_HEAD,
            id="endless chunk extension",
        ),
        pytest.param(
            head("POST", "/ingest", "Transfer-Encoding: chunked") + b"0\r\n" + b"x" * MAX_HEAD,
            id="endless trailer",
        ),
        pytest.param(
            head("POST", "/ingest", "Content-Length: 5", "Content-Length: 7"), id="two lengths"
        ),
        pytest.param(
            head("POST", "/ingest", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0",
            id="two framings",
        ),
        pytest.param(head("POST", "/ingest", "Content-Length : 9999"), id="a space too many"),
        pytest.param(head("POST", "/ingest", "Content-Length: +9999"), id="a sign too many"),
        pytest.param(head("POST", "/ingest", "Content-Length:\t99"), id="a tabulator"),
        pytest.param(head("POST", "/ingest", "Content-Length: 9, 9"), id="a list of lengths"),
        pytest.param(head("POST", "/ingest", "Content-Length: \xb2"), id="no ASCII digit"),
        pytest.param(head("POST", "/ingest", "Content-Length: 9\r\n 9"), id="a folded length"),
        pytest.param(head("POST", "/ingest", "Transfer-Encoding: gzip"), id="unknown encoding"),
        pytest.param(
            head("POST", "/ingest", "Transfer-Encoding: gzip, chunked") + b"5\r\nabc",
            id="two encodings",
        ),
        pytest.param(
            head("POST", "/ingest", "Transfer-Encoding: xchunked") + b"5\r\nabc", id="no encoding"
        ),
        pytest.param(b"\r\n\r\n", id="an empty head"),
        pytest.param(b"\r\n\r\nGET /health HTTP/1.1\r\n", id="an empty head first"),
        pytest.param(
            head("GET", "/health", "Connection: Upgrade", "Upgrade: h2c", "HTTP2-Settings: AAMA"),
            id="upgrade",
        ),
        pytest.param(
            head("POST", "/ingest", "Content-Length: 99999999", "Expect: 100-continue"),
            id="too large to continue",
        ),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20, id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
    ],
)
def test_requests_that_never_end_hold_up_nobody(
    port: int, crowd: ExitStack, rudeness: bytes
) -> None:
    """More such clients than threads, and still everybody else is answered within a second."""
    for _ in range(CROWD):
        crowd.enter_context(Raw(port)).send(rudeness)
    assert slowest(port, 10) < 1.0


@pytest.mark.parametrize("line", [b"-6", b"-3", b"-ffff", b"+5", b"0x5", b" 5", b"5 ", b"", b"g"])
def test_a_chunk_whose_size_is_no_number_is_refused(port: int, line: bytes) -> None:
    """Never taken for a number, negative ones least of all."""
    with Raw(port) as client:
        client.send(head("POST", "/ingest", "Transfer-Encoding: chunked") + line + b"\r\nabc")
        client.send(b"de\r\n0\r\n\r\n")
        assert problem(client.answer())["status"] == 400
        assert client.is_closed()
    assert slowest(port, 3) < 1.0


def test_a_head_that_does_not_end_is_closed_with_a_408(hasty_port: int) -> None:
    """After the seconds a head may take, and in words."""
    with Raw(hasty_port) as client:
        began = time.monotonic()
        client.send(b"GET /health HTTP/1.1\r\nHost: loc")
        answer = client.answer()
        assert 0.9 < time.monotonic() - began < 4.0
        assert problem(answer)["type"] == "/problems/request-timeout"
        assert answer.status == 408
        assert answer.headers["Connection"] == "close"
        assert client.is_closed()


def test_a_head_that_trickles_does_not_get_more_time(hasty_port: int) -> None:
    """The deadline is for the head as a whole."""
    with Raw(hasty_port) as client:
        began = time.monotonic()
        for byte in itertools.chain(b"GET /health HTTP/1.1\r\nX: ", itertools.repeat(b"x"[0])):
            client.send(bytes([byte]))
            if not client.is_silent(0.2):
                break
        assert client.answer().status == 408
        assert time.monotonic() - began < 4.0


def test_a_connection_without_a_request_is_closed_without_a_word(hasty_port: int) -> None:
    """Nobody has asked for anything."""
    with Raw(hasty_port) as client:
        assert client.is_closed()


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_a_body_that_does_not_end_is_closed_with_a_408(hasty_port: int, framing: str) -> None:
    """After the seconds a body may take, and in words."""
    with Raw(hasty_port) as client:
        client.send(head("POST", "/ingest", framing) + b"5\r\n{")
        assert problem(client.answer())["type"] == "/problems/request-timeout"
        assert client.is_closed()


def test_a_kept_connection_has_deadlines_too(hasty_port: int) -> None:
    """The second request of a connection is watched like the first."""
    with Raw(hasty_port) as client:
        client.send(head("GET", "/health"))
        assert client.answer().status == 200
        client.send(b"GET /hea")
        assert client.answer().status == 408
        assert client.is_closed()


def test_the_second_of_two_pipelined_requests_has_a_deadline_too(hasty_port: int) -> None:
    """Also when its beginning came together with the first."""
    with Raw(hasty_port) as client:
        client.send(head("GET", "/health") + b"GET /hea")
        assert client.answer().status == 200
        assert client.answer().status == 408
        assert client.is_closed()


def test_an_expectation_is_answered_before_the_body_is_sent(port: int) -> None:
    """`Expect: 100-continue`, as curl sends it with large bodies."""
    body = ids(3)
    with Raw(port) as client:
        client.send(head("POST", "/ingest", f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert client.answer().status == 100
        client.send(body)
        assert client.answer().status == 200
        assert client.is_silent(0.1)


def test_an_expectation_that_is_not_waited_for_is_fine(port: int) -> None:
    """The body may come along with the head."""
    with Raw(port) as client:
        client.send(post(ids(3), "Expect: 100-continue"))
        answer = client.answer()
        answer = client.answer() if answer.status == 100 else answer
        assert answer.status == 200


def test_too_large_a_body_is_not_asked_for(port: int) -> None:
    """The answer to an expectation that will not be met is the final one."""
    with Raw(port) as client:
        client.send(
            head("POST", "/ingest", f"Content-Length: {MAX_BODY + 1}", "Expect: 100-continue")
        )
        assert client.answer().status == 413


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("trailer", [b"", b"X-Sum: 1\r\nX-More: 2\r\n"], ids=["plain", "trailers"])
def test_chunked_bodies_are_read(port: int, size: int, trailer: bytes) -> None:
    """Whatever the size of the chunks, with trailers and without, and the connection is kept."""
    with Raw(port) as client:
        for _ in range(2):
            client.send(head("POST", "/ingest", "Transfer-Encoding: chunked"))
            client.send(chunked(ids(20), size, trailer))
            assert client.answer().status == 200


def test_chunk_extensions_are_ignored(port: int) -> None:
    """RFC 9112, section 7.1.1."""
    body = ids(3)
    with Raw(port) as client:
        client.send(head("POST", "/ingest", "Transfer-Encoding: chunked"))
        client.send(b'%x;name="value"\r\n%b\r\n0;last\r\n\r\n' % (len(body), body))
        assert client.answer().status == 200


@pytest.mark.parametrize(
    "request_",
    [
        post(ids(5)),
        head("POST", "/ingest", "Transfer-Encoding: chunked") + chunked(ids(5), 4, b"X: 1\r\n"),
    ],
    ids=["length", "chunked"],
)
def test_requests_may_come_byte_by_byte(port: int, request_: bytes) -> None:
    """Wherever the network cuts, the request is the same."""
    with Raw(port) as client:
        client.send_each(request_)
        assert client.answer().status == 200


def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    """All at once, of all kinds, one connection."""
    with Raw(port) as client:
        client.send(
            head("GET", "/health")
            + post(ids(3))
            + head("POST", "/ingest", "Transfer-Encoding: chunked")
            + chunked(ids(4), 5)
            + head("GET", "/nowhere")
            + head("GET", "/")
        )
        assert [client.answer().status for _ in range(5)] == [200, 200, 200, 404, 200]


def test_a_pipelined_request_may_be_cut_anywhere(port: int) -> None:
    """Half of the second request with the first, the rest later."""
    whole = head("GET", "/health") + post(ids(3))
    for at in range(len(head("GET", "/health")) + 1, len(whole), 7):
        with Raw(port) as client:
            client.send(whole[:at])
            assert client.answer().status == 200
            client.send(whole[at:])
            assert client.answer().status == 200


def test_connections_are_kept(port: int) -> None:
    """Many requests, one connection."""
    with Raw(port) as client:
        for _ in range(20):
            client.send(post(ids(1)))
            answer = client.answer()
            assert answer.status == 200
            assert answer.headers.get("Connection", "keep-alive") == "keep-alive"


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\r\n\r\n",
        b"\x00\xff\xfe\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / SPDY\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G\xc3\x84T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nA\x00B: c\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 80_000 + b"\r\n\r\n",
        b"POST /ingest HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST /ingest HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST /ingest HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /ingest HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: what\r\n\r\n",
        b"POST /ingest HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n\r\n",
        b"POST /ingest HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_garbage_is_answered_with_a_problem(port: int, garbage: bytes) -> None:
    """Never a page, never a 500, and the connection is closed."""
    with Raw(port) as client:
        client.send(garbage)
        answer = client.answer()
        assert 400 <= answer.status < 500
        problem(answer)
        assert client.is_closed()


def _too_large_with_a_length(client: Raw) -> None:
    client.send(head("POST", "/ingest", f"Content-Length: {MAX_BODY + 1}"))
    client.send(b" " * 10_000)


def _too_large_in_chunks(client: Raw) -> None:
    client.send(head("POST", "/ingest", "Transfer-Encoding: chunked"))
    client.send(chunked(b" " * (MAX_BODY + 200_000), 50_000))


def _too_large_in_one_chunk(client: Raw) -> None:
    client.send(head("POST", "/ingest", "Transfer-Encoding: chunked"))
    client.send(b"%x\r\n" % (MAX_BODY * 10) + b" " * (MAX_BODY + 200_000))


_TOO_LARGE = [_too_large_with_a_length, _too_large_in_chunks, _too_large_in_one_chunk]


@pytest.mark.parametrize("send", _TOO_LARGE)
def test_too_large_a_body_is_refused_and_the_connection_closed(
    port: int, send: Callable[[Raw], None]
) -> None:
    """413, whether it says its size beforehand or not."""
    with Raw(port) as client:
        send(client)
        answer = client.answer()
        assert answer.status == 413
        assert problem(answer)["type"] == "/problems/payload-too-large"
        assert answer.headers["Connection"] == "close"
        assert client.is_closed()


@pytest.mark.parametrize("send", _TOO_LARGE)
def test_clients_with_too_large_bodies_hold_up_nobody(
    port: int, crowd: ExitStack, send: Callable[[Raw], None]
) -> None:
    """More of them than threads, none of which hangs up."""
    for _ in range(CROWD):
        send(crowd.enter_context(Raw(port)))
    assert slowest(port, 10) < 1.0


def test_a_body_of_exactly_the_limit_is_read(port: int) -> None:
    """With a length and in chunks."""
    body = ids(3)
    body += b" " * (MAX_BODY - len(body))
    with Raw(port) as client:
        client.send(post(body))
        assert client.answer().status == 200
        client.send(head("POST", "/ingest", "Transfer-Encoding: chunked") + chunked(body, 65_536))
        assert client.answer().status == 200
