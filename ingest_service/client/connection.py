"""Connections on which an answer, its head like its body, has a deadline.

The time-outs of urllib3 are those of single reads: whoever sends a byte now and then outlasts
them all.
"""

import io
from http.client import HTTPResponse
from socket import socket
from typing import Any, cast

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, connection_from_url

from ingest_service.clock import SystemClock

#: Seconds within which a connection is made.
CONNECT_SECONDS = 5.0
_CLOCK = SystemClock()


class Connection(HTTPConnection):
    """A connection whose time-out is of sending and the answer together, not of each read."""

    #: When what is being read has to be there.
    _deadline = 0.0

    def connect(self) -> None:
        """Connect, in less time than an answer may take."""
        timeout = self.timeout
        self.timeout = min(CONNECT_SECONDS, cast(float, timeout))
        try:
            super().connect()
        finally:
            self.timeout = timeout
        self.sock.settimeout(timeout)

    def getresponse(self) -> Any:
        """Return the answer whose head has come in time."""
        self.allow(cast(float, self.timeout))
        return super().getresponse()

    def allow(self, seconds: float) -> None:
        """Give what is still to be read so many seconds from now on."""
        self._deadline = _CLOCK.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds until the deadline; raise TimeoutError if there are none."""
        seconds = self._deadline - _CLOCK.monotonic()
        if seconds <= 0:
            raise TimeoutError("timed out")
        return seconds

    # What http.client makes of an answer; that this is no class is all the same to it.
    def response_class(self, sock: socket, *arguments: Any, **options: Any) -> HTTPResponse:  # type: ignore[override]
        """Return an answer that is read until the deadline."""
        answer = HTTPResponse(sock, *arguments, **options)
        answer.fp = io.BufferedReader(_Incoming(self, sock, answer.fp.detach()))
        return answer


class TlsConnection(Connection, HTTPSConnection):
    """The same, encrypted."""


def pool_of(url: str) -> HTTPConnectionPool:
    """Return what keeps the connections to the service at `url`."""
    pool = connection_from_url(url, maxsize=64, block=False, retries=False)
    pool.ConnectionCls = TlsConnection if pool.scheme == "https" else Connection
    return pool


class _Incoming(io.RawIOBase):
    """What comes from a service; each read has the time that is left."""

    def __init__(self, connection: Connection, sock: socket, raw: io.RawIOBase) -> None:
        self._connection = connection
        self._sock = sock
        self._raw = raw

    def readable(self) -> bool:
        """Tell that it is for reading."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what is there, or comes until the deadline."""
        self._sock.settimeout(self._connection.left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()
