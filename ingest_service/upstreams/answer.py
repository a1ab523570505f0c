"""An answer from a socket that is not trusted: bounded in time and size, and no byte too many."""

import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus

from urllib3.exceptions import ProtocolError

from ingest_service.clock import SystemClock

#: Interim answers (1xx) that are skipped before a final one has to come.
MOST_INTERIM = 10

_PIECE = 64 * 1024
#: Bytes and lines of a head, or of what stands between and behind chunks.
_LONGEST_HEAD = 128 * 1024
_MOST_LINES = 1_000
_BODILESS = frozenset(
    {HTTPStatus.SWITCHING_PROTOCOLS, HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
)
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9])[ \t]+([1-9][0-9]{2})(?:[ \t]|\Z)")
_LINE_END = re.compile(rb"\r?\n")
_EMPTY_LINE = re.compile(rb"\r?\n\r?\n")
#: What servers say when they mean none.
_NO_CODINGS = frozenset({"identity", "none", "binary", "7bit", "8bit"})
#: More digits would be beyond every limit, and beyond what Python reads.
_LENGTH = re.compile(r"0*([0-9]{1,18})")
_CHUNK_SIZE = re.compile(rb"0*([0-9A-Fa-f]{1,15})")
#: Seconds by which a socket may wait beyond its deadline.
_SLACK = 0.05

# Sockets live in real time, whatever a test does to everybody else's.
_clock = SystemClock()


class Broken(ProtocolError):
    """What comes is no HTTP/1 (RFC 9112), or not all of it; says so in words of ours alone."""


class Unreadable(Exception):
    """The answer came, and is of no use."""


class Encoded(Unreadable):
    """The answer is in a coding that was not asked for."""

    def __init__(self, coding: str) -> None:
        super().__init__(f"The answer is encoded ({coding[:40]}), which was not asked for.")


def wait_until(sock: socket.socket, deadline: float) -> None:
    """Let `sock` wait until `deadline` (monotonic); raise `TimeoutError` if that has passed."""
    left = deadline - _clock.monotonic()
    if left <= 0:
        raise TimeoutError
    # Only if need be: it lets go of the interpreter, and getting that back can take milliseconds.
    if not left <= (sock.gettimeout() or 0.0) <= left + _SLACK:
        sock.settimeout(left + _SLACK / 2)


class _Stream:
    """Reads what a socket receives, and knows what of it nobody has read."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self.deadline = deadline
        #: What was received, and where what nobody has read begins.
        self._received = bytearray()
        self._at = 0

    def has_more(self) -> bool:
        """Return whether something was received that nobody has read."""
        return self._at < len(self._received)

    def line(self) -> bytes:
        """Read a line; return it without its end."""
        return self._until(_LINE_END)

    def lines(self) -> list[str]:
        """Read what follows a line, up to an empty one; return its lines, none of them empty."""
        # With the end of the line before, because nothing may follow that.
        self._at -= 1
        lines = self._until(_EMPTY_LINE).decode("latin-1").split("\n")[1:]
        if len(lines) > _MOST_LINES:
            raise Broken("it has too many lines")
        return lines

    def _until(self, end: re.Pattern[bytes]) -> bytes:
        """Read up to `end`, and that; return what is before it."""
        start = self._at
        while True:
            found = end.search(self._received, start)
            size = (found.start() if found else len(self._received)) - self._at
            if size > _LONGEST_HEAD:
                raise Broken("it has a line without an end")
            if found:
                break
            self._receive()
            # The end can have begun before.
            start = max(0, size - 3)
        text = bytes(self._received[self._at : found.start()])
        self._at = found.end()
        return text

    def exactly(self, size: int) -> Iterator[bytes | bytearray]:
        """Read so many bytes, piece by piece."""
        while size:
            if not self.has_more():
                self._receive()
            piece = self._received[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            yield piece

    def everything(self) -> Iterator[bytes | bytearray]:
        """Read until the other side hangs up."""
        yield self._received[self._at :]
        self._received.clear()
        while piece := self._receive_or_end():
            yield piece

    def _receive(self) -> None:
        """Receive more; that nothing comes is too early."""
        del self._received[: self._at]
        self._at = 0
        piece = self._receive_or_end()
        if not piece:
            raise Broken("it is cut off")
        self._received += piece

    def _receive_or_end(self) -> bytes:
        wait_until(self._sock, self.deadline)
        return self._sock.recv(_PIECE)


class Answer:
    """A final answer: its head is read at once, its body by `read`.

    Both raise `TimeoutError` at `deadline` (monotonic), another `OSError` if the
    connection fails, and `Broken` if it is no HTTP/1 or not complete.
    """

    #: From 200 to 999, or 101.
    status: int
    #: By names in lower case; the values of one that comes more than once are joined by commas.
    headers: Mapping[str, str]

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._stream = _Stream(sock, deadline)
        self._is_complete = False
        for _ in range(MOST_INTERIM + 1):
            status = _STATUS_LINE.match(self._stream.line())
            if not status:
                raise Broken("it is no HTTP")
            self._minor, self.status = map(int, status.groups())
            self.headers = _headers(self._stream.lines())
            if self.status >= 200 or self.status == HTTPStatus.SWITCHING_PROTOCOLS:
                break
        else:
            raise Broken("there are too many interim ones")
        connection = self.headers.get("connection", "").lower()
        self._stays_open = (
            "close" not in connection
            and (self._minor > 0 or "keep-alive" in connection)
            and self.status != HTTPStatus.SWITCHING_PROTOCOLS
        )

    def is_in_step(self) -> bool:
        """Return whether the next answer on this connection will be that of the next request."""
        return self._is_complete and self._stays_open and not self._stream.has_more()

    def hurry(self, seconds: float) -> None:
        """Have the rest read within so many seconds, or not at all."""
        self._stream.deadline = min(self._stream.deadline, _clock.monotonic() + seconds)

    def read(self, most: int) -> bytes:
        """Return the body; raise `Unreadable` if it has more than `most` bytes."""
        body = bytearray()
        for piece in self._body():
            body += piece
            if len(body) > most:
                raise Unreadable(f"The answer is larger than {most} bytes.")
        self._is_complete = True
        return bytes(body)

    def _body(self) -> Iterator[bytes | bytearray]:
        """Return the pieces of the body, whose length is a matter of RFC 9112, 6.3."""
        if self.status in _BODILESS:
            return iter(())
        length = self.headers.get("content-length")
        codings = _listed(self.headers.get("transfer-encoding", "").lower())
        codings = [coding for coding in codings if coding not in _NO_CODINGS]
        if codings:
            # With a length, or before HTTP/1.1, it may have been meant for somebody else.
            self._stays_open &= length is None and self._minor > 0
            if set(codings) == {"chunked"}:
                return self._chunks()
            raise Encoded(", ".join(codings))
        if length is not None:
            return self._stream.exactly(_length(length))
        self._stays_open = False
        return self._stream.everything()

    def _chunks(self) -> Iterator[bytes | bytearray]:
        while size := _chunk_size(self._stream.line()):
            yield from self._stream.exactly(size)
            if self._stream.line():
                raise Broken("it has a chunk without an end")
        # Trailers are nobody's.
        self._stream.lines()


def _headers(lines: Iterable[str]) -> dict[str, str]:
    """Return what the lines say; what is no header is passed over."""
    headers: dict[str, str] = {}
    name = ""
    for line in lines:
        key, colon, value = line.partition(":")
        if line[0] in " \t":
            # It goes on with the one before it (RFC 9112, 5.2).
            headers[name] = f"{headers.get(name, '')} {line.strip()}"
        elif colon:
            name, value = key.strip().lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _listed(text: str) -> list[str]:
    """Return the elements of a list; empty ones do not count (RFC 9110, 5.6.1)."""
    return [element for part in text.split(",") if (element := part.strip())]


def _length(text: str) -> int:
    """Return what a `Content-Length` says, which may say the same more than once."""
    said = {match[1] if (match := _LENGTH.fullmatch(each)) else "" for each in _listed(text)}
    if len(said) != 1 or "" in said:
        raise Broken("it does not say how long it is")
    return int(said.pop())


def _chunk_size(line: bytes) -> int:
    """Return how long a chunk is by its first line, which may say more about it."""
    size = _CHUNK_SIZE.fullmatch(line.partition(b";")[0].strip())
    if not size:
        raise Broken("it has a chunk without a size")
    return int(size[1], 16)
