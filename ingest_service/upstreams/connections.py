"""Connections that keep to a deadline, and are not trusted once they have idled."""

# Otherwise the first look-up reads it, perhaps when no descriptor is left.
import encodings.idna  # noqa: F401
import functools
import math
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
)

from ingest_service.clock import SystemClock
from ingest_service.upstreams import sending
from ingest_service.upstreams.bounded_response import BoundedResponse
from ingest_service.upstreams.shortage import descriptor_error, shortage

#: Seconds after which an idle connection is not used again. Servers close idle ones
#: after 2 s (gunicorn), 5 s (Node, Apache, uvicorn) or more; a request that crosses
#: with that is lost, and with batches 5 s apart it would cross again and again.
IDLE = 1.0

# Sockets live in real time, whatever a test does to everybody else's.
_clock = SystemClock()


class _Idling:
    """What the two kinds of connection have in common."""

    sock: socket.socket | ssl.SSLSocket | None
    timeout: float | None
    _dns_host: str
    idle_since = math.inf
    _connected_by = math.inf

    @property
    def is_connected(self) -> bool:
        """Whether it can be used for another request."""
        fresh = _clock.monotonic() - self.idle_since <= IDLE
        return fresh and super().is_connected  # type: ignore[misc]

    def connect(self) -> None:
        """Connect within the timeout, from the look-up of the name to the end of TLS."""
        seconds = math.inf if self.timeout is None else self.timeout
        self._connected_by = _clock.monotonic() + seconds
        super().connect()  # type: ignore[misc]
        if _clock.monotonic() >= self._connected_by:
            self._give_up(f"it took longer than {seconds:g} s")

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request, if there is still time for it once there is a connection."""
        if self.sock is None:
            self.connect()
        if not sending.may_begin():
            self._give_up("no time is left for the request")
        try:
            super().request(*args, **kwargs)  # type: ignore[misc]
        finally:
            # Perhaps in part; the pace has to count with that.
            sending.sent()

    def _give_up(self, reason: str) -> None:
        connection = cast(HTTPConnection, self)
        connection.close()
        raise ConnectTimeoutError(connection, f"Given up: {reason}.")

    def _new_conn(self) -> socket.socket:
        """Return a socket to one of the addresses of the host."""
        connection = cast(HTTPConnection, self)
        try:
            addresses = self._look_up(connection)
            return _open_any(addresses, connection, self._connected_by)
        except TimeoutError as error:
            raise ConnectTimeoutError(connection, "No address answered in time.") from error
        except OSError as error:
            raise NewConnectionError(connection, f"No connection: {error}") from error

    def _look_up(self, connection: HTTPConnection) -> list[Any]:
        """Return the addresses of the host, as `getaddrinfo` does."""
        host = self._dns_host.strip("[]")
        try:
            return socket.getaddrinfo(host, connection.port, type=socket.SOCK_STREAM)
        except UnicodeError:
            raise LocationParseError(f"{host!r}, the name is not allowed") from None
        except socket.gaierror as error:
            lacking = descriptor_error()
            if lacking is not None:
                raise lacking from error
            raise NameResolutionError(connection.host, connection, error) from error


class _PlainConnection(_Idling, HTTPConnection):
    response_class = BoundedResponse


class _TlsConnection(_Idling, HTTPSConnection):
    response_class = BoundedResponse


def _open_any(
    addresses: list[Any], connection: HTTPConnection, connected_by: float
) -> socket.socket:
    """Return a socket to the first address that answers; each gets its share of the time."""
    failure = OSError("the name has no address")
    for position, address in enumerate(addresses):
        left = connected_by - _clock.monotonic()
        if left <= 0:
            raise TimeoutError
        try:
            sock = _open(address, connection, left / (len(addresses) - position))
        except OSError as error:
            failure = error
            if shortage(error):
                break
        else:
            sock.settimeout(_timeout(max(connected_by - _clock.monotonic(), 0.001)))
            return sock
    raise failure


def _open(address: Any, connection: HTTPConnection, seconds: float) -> socket.socket:
    family, kind, protocol, _, where = address
    sock = socket.socket(family, kind, protocol)
    try:
        for option in connection.socket_options or ():
            sock.setsockopt(*option)
        sock.settimeout(_timeout(seconds))
        sock.connect(where)
    except BaseException:
        sock.close()
        raise
    return sock


def _timeout(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None


class _Plain(urllib3.HTTPConnectionPool):
    ConnectionCls = _PlainConnection

    def _put_conn(self, conn: Any) -> None:
        _note_idle(conn)
        super()._put_conn(conn)


class _Tls(urllib3.HTTPSConnectionPool):
    """Connections that trust what `trust` returns at the moment they are used."""

    ConnectionCls = _TlsConnection

    def __init__(self, *args: Any, trust: Callable[[], ssl.SSLContext], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._trust = trust

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = cast(HTTPSConnection, super()._get_conn(timeout))
        context = self._trust()
        if connection.ssl_context is not context:
            # It was verified by what is not trusted any more.
            connection.close()
            connection.ssl_context = context
        return connection

    def _put_conn(self, conn: Any) -> None:
        _note_idle(conn)
        super()._put_conn(conn)


def _note_idle(connection: _Idling | None) -> None:
    if connection is not None:
        connection.idle_since = _clock.monotonic()


def bound(pool: urllib3.PoolManager, trust: Callable[[], ssl.SSLContext]) -> urllib3.PoolManager:
    """Return `pool`, which makes connections of this kind from now on."""
    tls = cast(type[_Tls], functools.partial(_Tls, trust=trust))
    pool.pool_classes_by_scheme = {"http": _Plain, "https": tls}
    return pool
