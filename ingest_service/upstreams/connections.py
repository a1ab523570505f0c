"""Connections that keep to a deadline, and are not trusted once they have idled."""

import contextlib

# Otherwise the first look-up reads it, perhaps when no descriptor is left.
import encodings.idna  # noqa: F401
import functools
import math
import queue
import socket
import ssl
from collections.abc import Callable
from typing import Any, TypeVar, cast

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    SSLError,
)
from urllib3.util.ssl_match_hostname import CertificateError

from ingest_service.clock import SystemClock
from ingest_service.upstreams import sending
from ingest_service.upstreams.answer import Answer, Broken, wait_until
from ingest_service.upstreams.shortage import descriptor_error, shortage

#: Seconds after which an idle connection is not used again. Servers close idle ones
#: after 2 s (gunicorn), 5 s (Node, Apache, uvicorn) or more; a request that crosses
#: with that is lost, and with batches 5 s apart it would cross again and again.
IDLE = 1.0

T = TypeVar("T")

# Sockets live in real time, whatever a test does to everybody else's.
_clock = SystemClock()


class _Idling:
    """What the two kinds of connection have in common."""

    sock: socket.socket | ssl.SSLSocket | None
    _dns_host: str
    idle_since = math.inf
    #: When it has to be connected at the latest (monotonic); set before it is.
    connected_by: float

    @property
    def is_connected(self) -> bool:
        """Whether it can be used for another request."""
        fresh = _clock.monotonic() - self.idle_since <= IDLE
        return fresh and super().is_connected  # type: ignore[misc]

    def connect(self) -> None:
        """Connect in time, from the look-up of the name to the end of TLS."""
        super().connect()  # type: ignore[misc]
        if _clock.monotonic() >= self.connected_by:
            raise ConnectTimeoutError(self, "It took too long.")

    def _tunnel(self) -> None:
        """Have the proxy pass on every byte; in time, which the standard library's does not."""
        proxied = cast(Any, self)
        host = proxied._tunnel_host  # noqa: SLF001 - set by urllib3
        if ":" in host:
            host = f"[{host.strip('[]')}]"
        place = f"{host}:{proxied._tunnel_port}"  # noqa: SLF001 - the same
        try:
            wait_until(proxied.sock, self.connected_by)
            proxied.sock.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
            status = Answer(proxied.sock, self.connected_by).status
            # What follows, TLS, has only what is left.
            wait_until(proxied.sock, self.connected_by)
        except (OSError, Broken) as error:
            raise ProxyError("It does not connect.", error) from error
        if not 200 <= status < 300:
            raise ProxyError("It refuses to connect.", OSError(status))

    def ask(self, request: bytes, deadline: float) -> Answer:
        """Send a request, if there is still time for it; return the answer by `deadline`."""
        sock = cast(socket.socket, self.sock)
        wait_until(sock, deadline)
        if not sending.may_begin():
            raise ConnectTimeoutError(self, "No time is left for the request.")
        try:
            # Who hangs up early may have answered before.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(request)
        finally:
            # Perhaps in part; the pace has to count with that.
            sending.sent()
        return Answer(sock, deadline)

    def _new_conn(self) -> socket.socket:
        """Return a socket to one of the addresses of the host."""
        connection = cast(HTTPConnection, self)
        try:
            addresses = self._look_up(connection)
            return _open_any(addresses, connection, self.connected_by)
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
        except OSError as error:
            # Not always one of look-ups: without a descriptor it can be `EBUSY`.
            lacking = descriptor_error()
            if lacking is not None:
                raise lacking from error
            unknown = socket.gaierror(*error.args)
            raise NameResolutionError(connection.host, connection, unknown) from error


class _PlainConnection(_Idling, HTTPConnection):
    pass


class _TlsConnection(_Idling, HTTPSConnection):
    pass


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
            sock.settimeout(max(connected_by - _clock.monotonic(), 0.001))
            return sock
    try:
        raise failure
    finally:
        # It holds this frame: together they would stay, see `let_go`.
        del failure


def _open(address: Any, connection: HTTPConnection, seconds: float) -> socket.socket:
    family, kind, protocol, _, where = address
    sock = socket.socket(family, kind, protocol)
    try:
        for option in connection.socket_options or ():
            sock.setsockopt(*option)
        sock.settimeout(seconds)
        sock.connect(where)
    except BaseException:
        sock.close()
        raise
    return sock


class _Stack(queue.LifoQueue[Any]):
    """Idle connections, the last one first.

    Nobody waits for one, and there are never more than threads, so the list's own lock is enough.
    """

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        self.queue.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        try:
            return self.queue.pop()
        except IndexError:
            raise queue.Empty from None


class Connections(urllib3.HTTPConnectionPool):
    """Connections to one server, kept for the next requests."""

    QueueCls = _Stack
    ConnectionCls: type[HTTPConnection] = _PlainConnection

    def exchange(
        self, request: bytes, seconds: float, read: Callable[[Answer], T], *, tunnel: bool
    ) -> T:
        """Send a request; return what `read` makes of its answer.

        That has so many seconds until it is complete. Half of them may be spent on
        connecting: a server that cannot be reached is to be known for that before its
        batch is given up. `tunnel`: the proxy is to pass on bytes (CONNECT), not requests.

        Raise `OSError` or `HTTPError`.
        """
        deadline = _clock.monotonic() + seconds
        connection: Any = self._get_conn()
        answer = None
        try:
            if connection.sock is None:
                self._connect(connection, seconds / 2, tunnel=tunnel)
            answer = connection.ask(request, deadline)
            return read(answer)
        finally:
            # Of TLS inside of TLS nobody knows what has arrived.
            is_plain = isinstance(connection.sock, socket.socket)
            if answer is None or not answer.is_in_step() or not is_plain:
                connection.close()
            connection.idle_since = _clock.monotonic()
            self._put_conn(connection)

    def _connect(self, connection: Any, seconds: float, *, tunnel: bool) -> None:
        """Connect within so many seconds; whatever fails, nothing was sent."""
        connection.connected_by = _clock.monotonic() + seconds
        try:
            if tunnel:
                self._prepare_proxy(connection)
            else:
                connection.connect()
        except (ssl.SSLError, CertificateError) as error:
            raise SSLError(error) from error
        except (OSError, NewConnectionError, ConnectTimeoutError) as error:
            if connection.proxy and not connection.has_connected_to_proxy:
                raise ProxyError("It cannot be reached.", error) from error
            if isinstance(error, OSError):
                raise NewConnectionError(connection, f"No connection: {error}") from error
            raise


class _TlsConnections(Connections, urllib3.HTTPSConnectionPool):
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


def bound(pool: urllib3.PoolManager, trust: Callable[[], ssl.SSLContext]) -> urllib3.PoolManager:
    """Return `pool`, which makes connections of this kind from now on."""
    tls = cast(type[_TlsConnections], functools.partial(_TlsConnections, trust=trust))
    pool.pool_classes_by_scheme = {"http": Connections, "https": tls}
    return pool
