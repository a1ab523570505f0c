"""What the parser does not say of a request's framing: a head's length, and bad trailers."""

import re
from typing import Any

from ingest_service.front import limits

_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")
#: A field line (RFC 9110, section 5) and its carriage return.
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r")


class Framing:
    """Follows one connection's requests, in the pieces that the parser has taken."""

    def __init__(self) -> None:
        #: How much of an unfinished head has arrived.
        self.head_bytes = 0
        self._head_end = b""
        self._request: Any = None
        self._chunks: Chunks | None = None

    def follow(self, data: bytes, request: Any) -> str | None:
        """Take a piece; return what is wrong. `request` is gunicorn's, None before its head ends.

        Whatever follows a whole request is left for the next one.
        """
        if request is None:
            return self._go_on_with_head(data)
        at = 0
        if request is not self._request:
            self._request, self._chunks = request, None
            if request.chunked:
                at = self._body_begins(data)
                self._chunks = Chunks()
            self.head_bytes, self._head_end = 0, b""
        if self._chunks is not None and not self._chunks.are_well_formed(data, at):
            return "A trailer is malformed."
        return None

    def _go_on_with_head(self, data: bytes) -> str | None:
        self.head_bytes += len(data)
        # Empty lines before a request are none of it.
        self._head_end = (self._head_end + data if self._head_end else data.lstrip(b"\r\n"))[-3:]
        return "The head is too large." if self.head_bytes > limits.MAX_HEAD else None

    def _body_begins(self, data: bytes) -> int:
        begins = 0 if self._head_end else len(data) - len(data.lstrip(b"\r\n"))
        known = self._head_end + data
        return known.index(b"\r\n\r\n", begins) + 4 - len(self._head_end)


class Chunks:
    """A body in chunks, followed to the trailers behind the last one, which the parser skips."""

    def __init__(self) -> None:
        self._line = bytearray()
        #: How much of the present chunk is still to come.
        self._left = 0
        self._in_trailers = False
        self._ended = False

    def are_well_formed(self, data: bytes, at: int) -> bool:
        """Take what is in `data` from `at` on, which the parser has accepted as chunks."""
        while at < len(data) and not self._ended:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            end = data.find(b"\n", at)
            self._line += data[at : None if end < 0 else end]
            if end < 0:
                break
            at = end + 1
            if not self._take_line(bytes(self._line)):
                return False
            self._line.clear()
        return True

    def _take_line(self, line: bytes) -> bool:
        if self._in_trailers:
            self._ended = line == b"\r"
            return self._ended or _FIELD.fullmatch(line) is not None
        size = _SIZE.match(line)
        if size is None:
            return False
        # A line's end follows the chunk.
        self._left = int(size[0], 16) + 2
        if self._left == 2:
            self._left, self._in_trailers = 0, True
        return True
