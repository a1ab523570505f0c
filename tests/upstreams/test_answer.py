"""An answer is read to its last byte and no further, wherever the network cuts it."""

import contextlib
import itertools
import math
import socket
import time
import tracemalloc
from collections import deque
from collections.abc import Sequence
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.upstreams.answer import Answer, Broken, Unreadable, wait_until

MOST = 1_000


class Received:
    """A socket that receives `pieces`, and nothing more."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = deque(piece for piece in pieces if piece)

    def gettimeout(self) -> float:
        """Wait for ever."""
        return math.inf

    def settimeout(self, seconds: float) -> None:
        """Go on waiting for ever."""

    def recv(self, most: int) -> bytes:
        """Return the next piece, or what of it fits."""
        piece = self._pieces.popleft() if self._pieces else b""
        if len(piece) > most:
            self._pieces.appendleft(piece[most:])
        return piece[:most]


def answer(*pieces: bytes) -> Answer:
    """Return the answer that these pieces make."""
    return Answer(cast(socket.socket, Received(pieces)), math.inf)


def head(*fields: str, first: str = "HTTP/1.1 200 OK") -> bytes:
    """Return a head of these lines."""
    return "\r\n".join([first, *fields, "", ""]).encode("latin-1")


CHUNKED = head("Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    ("text", "body", "in_step"),
    [
        (head("Content-Length: 2") + b"{}", b"{}", True),
        (head("Content-Length: 0"), b"", True),
        (head("Content-Length: 2, 2") + b"{}", b"{}", True),
        (head("Content-Length: 2", "content-length:2") + b"{}", b"{}", True),
        (head("Content-Length: 2", "Connection: close") + b"{}", b"{}", False),
        (head("Content-Length: 2", first="HTTP/1.0 200 OK") + b"{}", b"{}", False),
        (
            head("Content-Length: 2", "Connection: Keep-Alive", first="HTTP/1.0 200 OK") + b"{}",
            b"{}",
            True,
        ),
        (head("Content-Length: 2") + b"{}\r\n", b"{}", False),
        (head() + b"to the end", b"to the end", False),
        (head("Content-Length: 9", first="HTTP/1.1 204 No"), b"", True),
        (head("Content-Length: 9", first="HTTP/1.1 304 No"), b"", True),
        (head("Transfer-Encoding: identity", "Content-Length: 2") + b"{}", b"{}", True),
        (CHUNKED + b"2\r\n{}\r\n0\r\n\r\n", b"{}", True),
        (CHUNKED + b"1;a=b\r\n{\r\n01 \r\n}\r\n0\r\nT: railer\r\n\r\n", b"{}", True),
        (CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", True),
        (CHUNKED + b"2\n{}\n0\n\n", b"{}", True),
        (CHUNKED + b"2\r\n{}\r\n0\r\n\r\nHTTP/1.1", b"{}", False),
        (
            head("Transfer-Encoding: chunked", "Content-Length: 7") + b"2\r\n{}\r\n0\r\n\r\n",
            b"{}",
            False,
        ),
        (b"HTTP/1.1 200\nContent-Length: 2\n\n{}", b"{}", True),
        (head("Content-Length: 2", "Connection: keep-alive, Close") + b"{}", b"{}", False),
        (
            head("Content-Length: 2", "Connection: keep-alive, close", first="HTTP/1.0 200 OK")
            + b"{}",
            b"{}",
            False,
        ),
        (head("Content-Length: 0000000000000000000002") + b"{}", b"{}", True),
        (head("Content-Length: 2,") + b"{}", b"{}", True),
        (
            head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
            b"",
            True,
        ),
        (head("Transfer-Encoding: , chunked") + b"0\r\n\r\n", b"", True),
        (CHUNKED + b"0000000000000000002\r\n{}\r\n0\r\n\r\n", b"{}", True),
        (head("Transfer-Encoding: none", "Content-Length: 2") + b"{}", b"{}", True),
        (
            head(
                "Transfer-Encoding: chunked",
                "Connection: keep-alive",
                first="HTTP/1.0 200 OK",
            )
            + b"0\r\n\r\n",
            b"",
            False,
        ),
        (
            head("no colon", "X Y : z", "\x01: \x02", ": z", " z", "Content-Length : 2") + b"{}",
            b"{}",
            True,
        ),
        (head(*["X: " + "y" * 4_000] * 30, "Content-Length: 2") + b"{}", b"{}", True),
    ],
)
def test_a_body_is_as_long_as_its_head_says(text: bytes, body: bytes, in_step: bool) -> None:
    """The connection is used again if nothing can be taken for the next answer (RFC 9112, 6.3)."""
    whole, single = answer(text), answer(*(bytes([byte]) for byte in text))

    assert (whole.read(MOST), single.read(MOST)) == (body, body)
    assert whole.is_in_step() == in_step
    # What is left over may not have been received yet; then the connection is not idle.
    assert single.is_in_step() or not in_step


def test_an_answer_that_was_not_read_is_not_in_step() -> None:
    """What is left of it would be taken for the next one."""
    assert not answer(head("Content-Length: 0")).is_in_step()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        head(first="HTTP/2 200 OK"),
        head(first="HTTP/1.1 099 No"),
        b"\r\n" + head("Content-Length: 0"),
        head("Content-Length: 0", first="HTTP/1.1 20 OK"),
        head("Content-Length: 0", first="HTTP/1.10 200 OK"),
        head("Content-Length: 0", first="HTTP/1." + "1" * 5_000 + " 200 OK"),
        head("Content-Length: 0", first="HTTP/1.1 2000 OK"),
        head(*["X: y"] * 1_001),
        head("X: " + "y" * 300_000),
        head(*["X: " + "y" * 3_000] * 100),
        head(first="HTTP/1.1 100 Continue") * 20 + head("Content-Length: 0"),
        head("Content-Length: 3") + b"{}",
        head("Content-Length: 2, 3") + b"{}",
        head("Content-Length: -2") + b"{}",
        head("Content-Length: +2") + b"{}",
        head("Content-Length: 0x2") + b"{}",
        head("Content-Length: \xb2") + b"{}",
        head("Content-Length:") + b"{}",
        head("Content-Length: " + "9" * 5_000) + b"{}",
        CHUNKED + b"2\r\n{}\r\n",
        CHUNKED + b"2\r\n{}0\r\n\r\n",
        CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
        CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
        CHUNKED + b"1_0\r\n0123456789012345\r\n0\r\n\r\n",
        CHUNKED + b"\r\n{}\r\n0\r\n\r\n",
        CHUNKED + b"f" * 200 + b"\r\n",
        CHUNKED + b"2;" + b"x" * 300_000 + b"\r\n{}\r\n0\r\n\r\n",
        CHUNKED + b"0\r\n" + b"T: railer\r\n" * 1_001 + b"\r\n",
    ],
)
def test_what_is_not_http_is_no_answer(text: bytes) -> None:
    """Whatever it is instead, and wherever it ends too early."""
    with pytest.raises(Broken):
        answer(text).read(MOST)


@pytest.mark.parametrize(
    "text",
    [
        head("Content-Length: 1001") + b"x" * 1_001,
        head() + b"x" * 1_001,
        CHUNKED + b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n" + b"x" * 501 + b"\r\n0\r\n\r\n",
    ],
)
def test_a_body_above_the_limit_is_not_read_to_its_end(text: bytes) -> None:
    """The limit is its length, not that of a piece."""
    too_long = answer(text)
    with pytest.raises(Unreadable, match="larger than 1000 bytes"):
        too_long.read(MOST)
    assert not too_long.is_in_step()


@pytest.mark.parametrize("timeout", [None, 0.5, 19.9, 20.1, 30.0])
def test_a_socket_waits_until_the_deadline_and_hardly_longer(timeout: float | None) -> None:
    """Whatever it was told before, which may have been too short."""
    with socket.socket() as sock:
        sock.settimeout(timeout)
        deadline = time.monotonic() + 20
        wait_until(sock, deadline)
        told = sock.gettimeout()

    assert told is not None
    assert deadline - time.monotonic() <= told <= 20.05


def test_there_is_no_waiting_after_the_deadline() -> None:
    """A timeout of 0 would mean something else."""
    with socket.socket() as sock, pytest.raises(TimeoutError):
        wait_until(sock, time.monotonic() - 1)


def test_a_body_takes_as_much_memory_as_it_is_long() -> None:
    """However small its pieces are."""
    body = bytes(100_000)
    text = CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    read = answer(*(text[start : start + 10_000] for start in range(0, len(text), 10_000)))
    tracemalloc.start()
    assert read.read(200_000) == body
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("banner", [b"+PONG\r\n", b"220 hi\r\n", b"S", b"junk\r\n\r\n"])
def test_who_speaks_something_else_is_not_waited_for(banner: bytes) -> None:
    """A first line is enough to know."""
    pieces = [banner, b"H-2.0-OpenSSH\r\n"] if banner == b"S" else [banner]
    with pytest.raises(Broken, match="it is no HTTP"):
        answer(*pieces)


@pytest.mark.parametrize("length", [[], ["Content-Length: 2"]])
def test_a_coding_that_was_not_asked_for_is_named(length: list[str]) -> None:
    """It would be read as something else."""
    with pytest.raises(Unreadable, match=r"encoded \(gzip, chunked\)"):
        answer(head("Transfer-Encoding: gzip, chunked", *length) + b"{}").read(MOST)


def test_headers_are_found_however_they_are_written() -> None:
    """In any case, more than once, on more than one line, in any of the old characters."""
    headers = answer(head("X-Ab: 1", "x-aB:\t2 ", "Y: a", "  b", "Z: \xfc")).headers
    assert headers == {"x-ab": "1, 2", "y": "a b", "z": "\xfc"}


BODIES = st.lists(st.binary(min_size=1, max_size=40), max_size=5)


@given(BODIES, st.booleans(), st.lists(st.integers(0, 400), max_size=8))
def test_where_the_network_cuts_an_answer_changes_nothing(
    parts: list[bytes], chunked: bool, cuts: list[int]
) -> None:
    """Its body is the same, and what follows it is noticed."""
    body = b"".join(parts)
    if chunked:
        framed = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
        text = CHUNKED + b"".join(framed) + b"0\r\n\r\n"
    else:
        text = head(f"Content-Length: {len(body)}") + body
    places = [0, *sorted(cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]

    read = answer(*pieces)
    assert (read.read(MOST), read.is_in_step()) == (body, True)


@given(st.binary(max_size=200), st.sampled_from([b"", head(), CHUNKED, b"HTTP/1.1 200 OK\r\n"]))
def test_no_bytes_do_more_than_make_an_answer_unreadable(text: bytes, before: bytes) -> None:
    """Nothing else is raised, whatever they are."""
    with contextlib.suppress(Broken, Unreadable):
        assert len(answer(before + text).read(MOST)) <= MOST
