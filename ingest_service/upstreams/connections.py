"""Connections that keep to a deadline, and are not trusted once they have idled."""

import http.client
import io
import socket
import ssl
from typing import Any, cast

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from ingest_service.clock import SystemClock
from ingest_service.upstreams import sending

#: Seconds after which an idle connection is not used again. Servers close idle ones
#: after 2 s (gunicorn), 5 s (Node, Apache, uvicorn) or more; a request that crosses
#: with that is lost, and with batches 5 s apart it would cross again and again.
IDLE = 1.0

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
        self.ended = False

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return what an answer is read from; in place of the socket's own."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
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

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer that has to be complete, headers included, within the socket's timeout."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        self._reader = _BoundedReader(sock)
        super().__init__(cast(socket.socket, self._reader), *args, **kwargs)

    def begin(self) -> None:
        super().begin()
        # The standard library takes what was cut off among the headers for complete,
        # and without its length for an empty success.
        if self._reader.ended:
            raise http.client.IncompleteRead(b"")


class _Idling:
    """What the two kinds of connection have in common."""

    sock: socket.socket | ssl.SSLSocket | None
    timeout: float | None
    idle_since = float("inf")

    @property
    def is_connected(self) -> bool:
        """Whether it can be used for another request."""
        fresh = _clock.monotonic() - self.idle_since <= IDLE
        return fresh and super().is_connected  # type: ignore[misc]

    def connect(self) -> None:
        """Connect; only from then on something is sent."""
        super().connect()  # type: ignore[misc]
        sending.now()

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        """Begin a request; what was left of the last one's time does not count."""
        if self.sock is not None:
            self.sock.settimeout(self.timeout)
        super().putrequest(*args, **kwargs)  # type: ignore[misc]


class _PlainConnection(_Idling, HTTPConnection):
    response_class = _Response


class _TlsConnection(_Idling, HTTPSConnection):
    response_class = _Response


class _Plain(urllib3.HTTPConnectionPool):
    ConnectionCls = _PlainConnection

    def _put_conn(self, conn: Any) -> None:
        _note_idle(conn)
        super()._put_conn(conn)


class _Tls(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection

    def _put_conn(self, conn: Any) -> None:
        _note_idle(conn)
        super()._put_conn(conn)


def _note_idle(connection: _Idling | None) -> None:
    if connection is not None:
        connection.idle_since = _clock.monotonic()


def bound(pool: urllib3.PoolManager) -> urllib3.PoolManager:
    """Return `pool`, which makes connections of this kind from now on."""
    pool.pool_classes_by_scheme = {"http": _Plain, "https": _Tls}
    return pool
