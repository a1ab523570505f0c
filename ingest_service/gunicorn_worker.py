"""The gunicorn worker: requests get a thread only once they have arrived in full.

gunicorn's threaded worker lends a thread to a connection while its request
trickles in, so that a few slow clients occupy all threads. Here the worker's
own selector collects the bytes; idle connections, half-sent headers and
trickling bodies cost memory and nothing else, and have a deadline.
"""

import re
import socket
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from selectors import EVENT_READ
from typing import Any

from flask import Response
from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

from ingest_service.web.problems import problem

#: Seconds for a request's head, and for its body after that.
HEAD_SECONDS = 10.0
BODY_SECONDS = 60.0
#: Seconds a client has to notice that its connection was closed.
LINGER_SECONDS = 2.0
#: Longest head; gunicorn has finer limits, this one only bounds memory.
MAX_HEAD = 64 * 1024
#: All arriving bodies together may have this many times the size of the largest one.
MAX_BODIES = 4
#: Seconds a client may refuse to take more of its answer.
SEND_SECONDS = 30

#: Seconds a thread waits for bytes that should have arrived before it got the request.
LATE_SECONDS = 1

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding[ \t]*:[^\r\n]*chunked[ \t]*\r\n", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect[ \t]*:[ \t]*100-continue[ \t]*(?=\r\n)", re.IGNORECASE)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[^\r\n]*)?")


class Refused(Exception):
    """What has arrived is answered at once, with a problem; no thread gets it."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.slug = slug


class _Replay:
    """A socket from which `received` comes first."""

    def __init__(self, sock: socket.socket, received: memoryview) -> None:
        self._received = received
        self._sock = sock
        self.gettimeout = sock.gettimeout
        self.settimeout = sock.settimeout

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes."""
        if not self._received:
            return self._sock.recv(size)
        piece = bytes(self._received[:size])
        self._received = self._received[size:]
        return piece


@dataclass(slots=True)
class Arrival:
    """What has arrived of a request."""

    conn: TConn
    deadline: float
    received: bytearray = field(default_factory=bytearray)
    #: Where its body begins; 0 while the head is incomplete.
    body_at: int = 0
    #: Where a body of known length ends; for a chunked one, where its next chunk begins.
    known_to: int = 0
    chunked: bool = False
    #: Size of the chunks so far.
    size: int = 0

    def is_complete(self, body_limit: int) -> bool:
        """Return whether nothing more has to be waited for; raise `Refused`.

        A thread that gets the request must never have to wait for the rest of it.
        """
        if not self.body_at and not self._read_head(body_limit):
            if len(self.received) > MAX_HEAD:
                raise Refused("malformed-request", f"The head is larger than {MAX_HEAD} bytes.")
            return False
        return self._all_chunks(body_limit) if self.chunked else self._whole_length()

    def hand_to(self, unreader: Any) -> None:
        """Give what has arrived to gunicorn's parser.

        A body goes as if it came from the socket just now: what is put back into
        an unreader is copied anew at every read of a part of it.
        """
        alone = not self.chunked and len(self.received) == self.known_to
        end = self.body_at if alone else len(self.received)
        unreader.unread(bytes(self.received[:end]))
        unreader.sock = _Replay(self.conn.sock, memoryview(self.received)[end:])

    def _read_head(self, body_limit: int) -> bool:
        end = self.received.find(_END_OF_HEAD)
        if end < 0:
            return False
        expect = _EXPECT.search(self.received, 0, end + 2)
        if expect:
            # Answered here, so gunicorn must not do it again.
            del self.received[expect.start() : expect.end()]
            end -= expect.end() - expect.start()
        self.body_at = self.known_to = end + len(_END_OF_HEAD)
        self.chunked = _CHUNKED.search(self.received, 0, end + 2) is not None
        length = _LENGTH.search(self.received, 0, end + 2)
        if length and not self.chunked:
            self.known_to += _within(body_limit, int(length[1][:19]))
        if expect and (self.chunked or self.known_to > self.body_at):
            self.conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _whole_length(self) -> bool:
        return len(self.received) >= self.known_to

    def _all_chunks(self, body_limit: int) -> bool:
        while True:
            end = self._end_of(b"\r\n", self.known_to)
            if end < 0:
                return False
            line = _CHUNK.fullmatch(self.received, self.known_to, end)
            if line is None:
                raise Refused("malformed-request", "A chunk of the body has no valid size.")
            size = int(line[1], 16)
            if size == 0:
                return self._end_of(_END_OF_HEAD, end) >= 0
            _within(body_limit, self.size + size)
            next_at = end + size + 4
            if len(self.received) < next_at:
                return False
            if not self.received.startswith(b"\r\n", next_at - 2):
                raise Refused("malformed-request", "A chunk of the body is longer than it says.")
            self.size += size
            self.known_to = next_at

    def _end_of(self, mark: bytes, start: int) -> int:
        """Return where `mark` is, -1 if it may still come."""
        found = self.received.find(mark, start, start + MAX_HEAD)
        if found < 0 and len(self.received) - start >= MAX_HEAD:
            raise Refused("malformed-request", "The framing of the body is too long.")
        return found


class IngestWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Serves one `create_app()` application."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arriving: dict[TConn, Arrival] = {}
        #: Until when each closed connection may say that it has noticed.
        self._lingering: dict[TConn, float] = {}
        self._stopper: threading.Thread | None = None
        self._app: Any

    def load_wsgi(self) -> None:
        """Load the application."""
        super().load_wsgi()
        self._app = self.app.wsgi()

    def accept(self, listener: socket.socket) -> None:
        """Take a new connection and wait for its request."""
        try:
            sock, client = listener.accept()
        except OSError:
            return  # it has gone already, or another look is due
        self.nr_conns += 1
        conn = TConn(self.cfg, sock, client, listener.getsockname())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(SEND_SECONDS))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(LATE_SECONDS))
        self._await_request(conn)

    def on_client_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        """Wait for the rest of another request on a connection that was kept."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._await_request(conn)
        self._receive(conn, client)

    def finish_request(self, conn: TConn, fs: Any) -> None:
        """Keep the connection, or close it without waiting for the client to notice."""
        if fs.cancelled() or fs.exception() is not None:
            super().finish_request(conn, fs)
        elif not fs.result():
            self._linger(conn)
        elif ahead := conn.parser.unreader.take_buffered():
            # The beginning of the next request came along with this one.
            self._await_request(conn)
            self._take(conn, ahead)
        else:
            super().finish_request(conn, fs)

    def murder_pending(self) -> None:
        """End what is past its deadline; called about once a second."""
        now = time.monotonic()  # noqa: TID251 - gunicorn's loop lives in real time
        if not self.alive:
            for arrival in self._arriving.values():
                patience = LINGER_SECONDS if arrival.received else 0.0
                arrival.deadline = min(arrival.deadline, now + patience)
        for arrival in [each for each in self._arriving.values() if each.deadline <= now]:
            self._forget(arrival.conn)
            if arrival.received:
                self._refuse(
                    arrival.conn, "request-timeout", "The request took too long to arrive."
                )
            else:
                self._close(arrival.conn)
        for conn in [conn for conn, deadline in self._lingering.items() if deadline <= now]:
            self._end_linger(conn)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answer what is not HTTP as a problem; gunicorn's own answer is a page."""
        if isinstance(exc, ParseException):
            self.log.warning("Not an HTTP request: %r", str(exc))
            _send(client, problem("malformed-request", "The request is not valid HTTP."))
        else:
            self.log.error("Error handling request", exc_info=exc)
            _send(client, problem("internal-error", "Something went wrong here."))

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Start no more batches, answer until the one in flight has ended, then stop serving."""
        if self._stopper is None:
            # On a thread, because a signal handler must not wait for a lock.
            self._stopper = threading.Thread(target=self._stop, args=(sig, frame), daemon=True)
            self._stopper.start()

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Do the same for Ctrl-C; whoever is in a hurry has `kill -9`, and loses nothing."""
        self.handle_exit(sig, frame)

    def _stop(self, sig: int, frame: Any) -> None:
        # Two seconds are left for the answers under way.
        self._app.extensions["ingest_parts"].close(self.cfg.graceful_timeout - LINGER_SECONDS)
        super().handle_exit(sig, frame)

    def _await_request(self, conn: TConn) -> None:
        deadline = time.monotonic() + HEAD_SECONDS  # noqa: TID251 - see murder_pending
        self._arriving[conn] = Arrival(conn, deadline)
        conn.sock.setblocking(False)
        self.poller.register(conn.sock, EVENT_READ, partial(self._receive, conn))

    def _receive(self, conn: TConn, sock: socket.socket) -> None:
        try:
            data = sock.recv(256 * 1024)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._take(conn, data)
        else:
            self._forget(conn)
            self._close(conn)

    def _take(self, conn: TConn, data: bytes) -> None:
        arrival = self._arriving[conn]
        had_head = bool(arrival.body_at)
        body_limit = self._app.config["BODY_LIMIT"]
        arrival.received += data
        try:
            complete = arrival.is_complete(body_limit)
            if not complete:
                self._check_room(MAX_BODIES * (body_limit + MAX_HEAD))
        except Refused as refusal:
            self._forget(conn)
            self._refuse(conn, refusal.slug, str(refusal))
            return
        except OSError:
            complete = False  # it cannot be told to continue; its end is noticed next
        if arrival.body_at and not had_head:
            arrival.deadline += BODY_SECONDS
        if complete:
            self._forget(conn)
            conn.init()
            arrival.hand_to(conn.parser.unreader)
            conn.data_ready = True
            self.enqueue_req(conn)

    def _check_room(self, limit: int) -> None:
        if sum(len(each.received) for each in self._arriving.values()) > limit:
            raise Refused("not-ready", "Too many large requests are arriving at once.")

    def _forget(self, conn: TConn) -> None:
        del self._arriving[conn]
        self.poller.unregister(conn.sock)

    def _refuse(self, conn: TConn, slug: str, detail: str) -> None:
        _send(conn.sock, problem(slug, detail))
        self._linger(conn)

    def _linger(self, conn: TConn) -> None:
        """Say that nothing more will come, and read on for a while.

        Closing at once would reset the connection, and the client could lose
        the answer (RFC 9112, section 9.6).
        """
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self.poller.register(conn.sock, EVENT_READ, partial(self._drain, conn))
        except (OSError, ValueError):
            self._close(conn)
            return
        self._lingering[conn] = time.monotonic() + LINGER_SECONDS  # noqa: TID251 - see above

    def _drain(self, conn: TConn, sock: socket.socket) -> None:
        try:
            if sock.recv(256 * 1024):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # reset by the client, which is an end as well
        self._end_linger(conn)

    def _end_linger(self, conn: TConn) -> None:
        del self._lingering[conn]
        self.poller.unregister(conn.sock)
        self._close(conn)

    def _close(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()


def _within(body_limit: int, size: int) -> int:
    if size > body_limit:
        raise Refused("payload-too-large", f"The body is larger than {body_limit} bytes.")
    return size


def _timeval(seconds: int) -> bytes:
    return seconds.to_bytes(8, "little") + bytes(8)


def _send(sock: socket.socket, answer: Response) -> None:
    """Send an answer without waiting: it fits into the socket's buffer or is lost."""
    body = answer.get_data()
    head = (
        f"HTTP/1.1 {answer.status}\r\nConnection: close\r\n"
        f"Content-Type: {answer.content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    try:
        sock.setblocking(False)
        sock.send(head.encode("ascii") + body)
    except OSError:
        return  # nobody is there to be told
