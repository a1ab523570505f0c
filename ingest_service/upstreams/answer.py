"""An answer from a socket that is not trusted: bounded in time and size, and no byte too many."""

import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import gunicorn_h1c
from urllib3.exceptions import ProtocolError

from ingest_service.clock import SystemClock

#: Interim answers (1xx) that are skipped before a final one has to come.
MOST_INTERIM = 10

_PIECE = 64 * 1024
#: Bytes of a head, or of a line between chunks.
_LONGEST_HEAD = 64 * 1024
_MOST_TRAILERS = 100
_BODILESS = frozenset(
    {HTTPStatus.SWITCHING_PROTOCOLS, HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
)
#: More digits would be beyond every limit, and beyond what Python reads.
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
#: Seconds by which a socket may wait longer than it should.
_SLACK = 0.05

# Sockets live in real time, whatever a test does to everybody else's.
_clock = SystemClock()


class Unreadable(Exception):
    """The answer came, and is of no use."""


def wait_until(sock: socket.socket, deadline: float) -> None:
    """Let `sock` wait until `deadline` (monotonic); raise `TimeoutError` if that has passed."""
    left = deadline - _clock.monotonic()
    if left <= 0:
        raise TimeoutError
    # As rarely as possible: each time, all other threads have their turn first.
    if abs((sock.gettimeout() or 0.0) - left) > _SLACK:
        sock.settimeout(left)


class _Stream:
    """Reads what a socket receives, and knows what of it nobody has read."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline
        #: What was received last, and where what nobody has read begins.
        self._received = b""
        self._at = 0

    def has_more(self) -> bool:
        """Return whether something was received that nobody has read."""
        return self._at < len(self._received)

    def head(self) -> Any:
        """Read the head of an answer."""
        tried = 0
        if not self.has_more():
            self._receive()
        while True:
            received = self._received[self._at :]
            try:
                head = gunicorn_h1c.parse_response(received, tried)
            except gunicorn_h1c.IncompleteError:
                tried = len(received)
                self._receive_more()
            except gunicorn_h1c.ParseError as error:
                raise ProtocolError("no HTTP", error) from error
            else:
                self._at += head["consumed"]
                return head

    def line(self) -> bytes:
        """Read a line; return it without its end."""
        while (end := self._received.find(b"\n", self._at)) < 0:
            self._receive_more()
        line = self._received[self._at : end].removesuffix(b"\r")
        self._at = end + 1
        return line

    def exactly(self, size: int) -> Iterator[bytes]:
        """Read so many bytes, piece by piece."""
        while size:
            if not self.has_more():
                self._receive()
            piece = self._received[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            yield piece

    def everything(self) -> Iterator[bytes]:
        """Read until the other side hangs up."""
        piece = self._received[self._at :]
        self._received, self._at = b"", 0
        yield piece
        while piece := self._receive_or_end():
            yield piece

    def _receive_more(self) -> None:
        """Receive more of what is read in one piece."""
        begun = self._received[self._at :]
        if len(begun) > _LONGEST_HEAD:
            raise ProtocolError("a head or a line without an end")
        self._receive()
        self._received = begun + self._received

    def _receive(self) -> None:
        """Receive what comes next; that nothing comes is too early."""
        self._received, self._at = self._receive_or_end(), 0
        if not self._received:
            raise ProtocolError("cut off", EOFError())

    def _receive_or_end(self) -> bytes:
        wait_until(self._sock, self._deadline)
        return self._sock.recv(_PIECE)


class Answer:
    """A final answer: its head is read at once, its body by `read`.

    Both raise `TimeoutError` at `deadline` (monotonic), another `OSError` if the
    connection fails, and `ProtocolError` if it is no HTTP/1 (RFC 9112) or not complete.
    """

    #: From 200 to 999, or 101.
    status: int
    #: By names in lower case; the values of one that comes more than once are joined by commas.
    headers: Mapping[str, str]

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._stream = _Stream(sock, deadline)
        self._is_complete = False
        for _ in range(MOST_INTERIM + 1):
            head = self._stream.head()
            self.status = head["status"]
            if self.status >= 200 or self.status == HTTPStatus.SWITCHING_PROTOCOLS:
                break
            if self.status < 100:
                raise ProtocolError("no status")
        else:
            raise ProtocolError("too many interim answers")
        self.headers = _joined(head["headers"])
        connection = self.headers.get("connection", "").lower()
        is_kept = "close" not in connection if head["minor_version"] else "keep-alive" in connection
        self._stays_open = is_kept and self.status != HTTPStatus.SWITCHING_PROTOCOLS

    def is_in_step(self) -> bool:
        """Return whether the next answer on this connection will be that of the next request."""
        return self._is_complete and self._stays_open and not self._stream.has_more()

    def read(self, most: int) -> bytes:
        """Return the body; raise `Unreadable` if it has more than `most` bytes."""
        pieces, size = [], 0
        for piece in self._body():
            size += len(piece)
            if size > most:
                raise Unreadable(f"The answer is larger than {most} bytes.")
            pieces.append(piece)
        self._is_complete = True
        return b"".join(pieces)

    def _body(self) -> Iterator[bytes]:
        """Return the pieces of the body, whose length is a matter of RFC 9112, 6.3."""
        coding = self.headers.get("transfer-encoding", "identity").lower()
        length = self.headers.get("content-length")
        if self.status in _BODILESS:
            return iter(())
        if coding == "chunked":
            # Where it has a length too, one of them may have been meant for somebody else.
            self._stays_open &= length is None
            return self._chunks()
        if coding != "identity":
            raise Unreadable(f"The answer is encoded ({coding[:40]}), which was not asked for.")
        if length is not None:
            return self._stream.exactly(_length(length))
        self._stays_open = False
        return self._stream.everything()

    def _chunks(self) -> Iterator[bytes]:
        while size := _chunk_size(self._stream.line()):
            yield from self._stream.exactly(size)
            if self._stream.line():
                raise ProtocolError("a chunk without an end")
        for _ in range(_MOST_TRAILERS):
            if not self._stream.line():
                return
        raise ProtocolError("too many trailers")


def _joined(fields: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    name = ""
    for key, value in fields:
        text = value.decode("latin-1")
        if not key:
            # A line that continues the one before it (RFC 9112, 5.2).
            headers[name] += text
            continue
        name = key.decode("latin-1").lower()
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


def _length(text: str) -> int:
    """Return what a `Content-Length` says, which may say the same more than once."""
    length, *others = {part.strip() for part in text.split(",")}
    if others or not _LENGTH.fullmatch(length):
        raise ProtocolError("no length")
    return int(length)


def _chunk_size(line: bytes) -> int:
    """Return how long a chunk is by its first line, which may say more about it."""
    size = line.partition(b";")[0].strip()
    if not _CHUNK_SIZE.fullmatch(size):
        raise ProtocolError("no size of a chunk")
    return int(size, 16)
