"""Answers that have to be complete in time, and that show when the other side is out of step."""

import contextlib
import http.client
import io
import socket
import ssl
from http import HTTPStatus
from typing import Any, cast

from ingest_service.clock import SystemClock

#: Interim answers (1xx) that are skipped before a final one has to come.
MOST_INTERIM = 10

# Sockets live in real time, whatever a test does to everybody else's.
_clock = SystemClock()


class _BoundedReader(io.RawIOBase):
    """Reads a socket until a deadline.

    A socket's own timeout counts anew with every byte: a slow enough answer would never end.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        timeout = sock.gettimeout()
        self._deadline = None if timeout is None else _clock.monotonic() + timeout
        self._begun = False
        self._stopped = False
        self.ended = False

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return what an answer is read from; in place of the socket's own."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._stopped:
            return None
        # At first the socket's timeout is the right one.
        if self._begun and self._deadline is not None:
            left = self._deadline - _clock.monotonic()
            if left <= 0:
                raise TimeoutError
            self._sock.settimeout(left)
        self._begun = True
        count = self._raw.readinto(buffer)
        self.ended = count == 0
        return count

    def has_more(self, buffered: io.BufferedReader) -> bool:
        """Return whether something was read that belongs to no answer; read nothing more."""
        self._stopped = True
        # TLS may have decrypted what the socket has nothing left of.
        decrypted = self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0
        return bool(buffered.peek(1)) or decrypted > 0

    def distrust(self) -> None:
        """Make sure that nobody uses the connection again: it looks as if hung up."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class BoundedResponse(http.client.HTTPResponse):
    """An answer that has to be complete, headers included, within the socket's timeout."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        self._reader = _BoundedReader(sock)
        super().__init__(cast(socket.socket, self._reader), *args, **kwargs)

    def begin(self) -> None:
        """Read the head."""
        super().begin()
        # The standard library takes what was cut off among the headers for complete,
        # and without its length for an empty success.
        if self._reader.ended:
            raise http.client.IncompleteRead(b"")
        if self.status == HTTPStatus.SWITCHING_PROTOCOLS:
            # Nobody asked for that; whatever follows is not HTTP.
            self._reader.distrust()

    def _read_status(self) -> tuple[str, int, str]:
        """Read the first line of the final answer; the standard library skips only 100."""
        for _ in range(MOST_INTERIM + 1):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == HTTPStatus.SWITCHING_PROTOCOLS:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("too many interim answers")

    def _close_conn(self) -> None:
        """End the answer; what came behind it would be taken for the next one."""
        if self._reader.has_more(self.fp):
            self._reader.distrust()
        super()._close_conn()  # type: ignore[misc]
