"""The gunicorn worker: one loop, the connections of all clients, and the order of a stop."""

import asyncio
import fcntl
import gc
import os
import resource
import socket
import struct
import sys
import termios
import threading
from contextlib import suppress
from typing import Any

from gunicorn.workers.gasgi import ASGIWorker

from ingest_service import logs
from ingest_service.front import limits, names
from ingest_service.front.protocol import FrontProtocol
from ingest_service.front.refusals import Refused
from ingest_service.front.shell import Shell


class FrontWorker(ASGIWorker):  # type: ignore[misc]  # gunicorn has no types
    """Serves one `create_app()` application."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections: set[FrontProtocol] = set()
        #: Until when each connection may take for its head, those first that waited longest.
        self.late: dict[FrontProtocol, float] = {}
        #: Since when, and with how many bytes in line, a connection takes no more of its answer.
        self.stuck: dict[FrontProtocol, tuple[float, int]] = {}
        #: Those that were closed and whose clients may still notice.
        self.closing: dict[FrontProtocol, None] = {}
        self._stopper: threading.Thread | None = None
        self._most = limits.MAX_CONNECTIONS
        #: Bytes a second that a client must take of its answer.
        self._min_rate = 0

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuse a gunicorn that is not built as expected, in words."""
        super().check_config(cfg, log)
        if missing := names.missing():
            sys.exit(
                "ingest_service: this gunicorn cannot be used, it lacks "
                f"{', '.join(missing)}; install a version that setup.cfg allows."
            )

    def load_wsgi(self) -> None:
        """Load the application and put the shell around it."""
        app = self.app.wsgi()
        self.asgi: Shell = Shell(app, self.loop)
        self._min_rate = app.config["MIN_RESPONSE_RATE"]
        logs.take_over("gunicorn.error")

    def handle_exit_signal(self) -> None:
        """Start no more batches, answer until the one in flight has ended, then stop serving."""
        if self._stopper is None:
            self.asgi.release_waiters()
            # On a thread, because the loop goes on answering.
            self._stopper = threading.Thread(target=self._stop, daemon=True)
            self._stopper.start()

    def handle_quit_signal(self) -> None:
        """Do the same for Ctrl-C; whoever is in a hurry has `kill -9`, and loses nothing."""
        self.handle_exit_signal()

    def admit(self, connection: FrontProtocol) -> None:
        """Find room for a connection: among too many, who has waited longest for nothing goes."""
        self.connections.add(connection)
        if len(self.connections) <= self._most:
            return
        idle = next(iter(self.closing), None) or next(iter(self.late))
        if idle is not connection:
            self.forget(idle)
            idle.transport.abort()
        elif not self.asgi.arrivals.refuse_oldest():
            connection.refuse(Refused("not-ready", "There are too many connections."))

    def await_head(self, connection: FrontProtocol) -> None:
        """Give a connection its time for the next head, from now on."""
        self.late.pop(connection, None)
        self.late[connection] = self.loop.time() + limits.HEAD_SECONDS

    def watch_reader(self, connection: FrontProtocol) -> None:
        """Look from time to time how much of its answer a client has taken."""
        self.stuck.setdefault(connection, (self.loop.time(), _not_taken(connection.transport)))

    def linger(self, connection: FrontProtocol) -> None:
        """Say that nothing more will come, and read on for a while (RFC 9112, section 9.6).

        Closing at once would reset the connection, and the client could lose the answer.
        """
        self.late.pop(connection, None)
        self.closing[connection] = None
        with suppress(OSError, RuntimeError):
            connection.transport.write_eof()
            connection.transport.resume_reading()
        self.loop.call_later(limits.LINGER_SECONDS, self._end_linger, connection)

    def cut_off(self, connection: FrontProtocol) -> None:
        """End an answer in the middle by a reset: an end alone can look like that of the answer."""
        with suppress(OSError):
            client = connection.transport.get_extra_info("socket")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection._closed = True  # noqa: SLF001 - see `names`
        connection.transport.abort()

    def lose(self, connection: FrontProtocol) -> None:
        """Forget a connection that is lost, and let it go once its task has ended."""
        self.forget(connection)
        if connection._task is not None:  # noqa: SLF001 - see `names`
            connection._task.add_done_callback(lambda _: _let_go(connection))  # noqa: SLF001

    def forget(self, connection: FrontProtocol) -> None:
        """Have nothing to do with a connection any more."""
        self.connections.discard(connection)
        for waiting in (self.late, self.stuck, self.closing):
            waiting.pop(connection, None)

    def _give_up(self, connection: FrontProtocol) -> None:
        """End the wait for a head: in words if it has begun."""
        if connection.transport.get_write_buffer_size():
            self.watch_reader(connection)
        elif connection.framing.head_bytes:
            connection.refuse(Refused.late())
        else:
            connection.transport.abort()

    def _end_linger(self, connection: FrontProtocol) -> None:
        if connection not in self.closing:
            return
        if connection.transport.get_write_buffer_size():
            # It takes its answer slowly: too slowly?
            self.watch_reader(connection)
            self.loop.call_later(limits.LINGER_SECONDS, self._end_linger, connection)
        else:
            connection.transport.abort()

    async def _serve(self) -> None:
        self._most = min(limits.MAX_CONNECTIONS, _descriptors() - limits.RESERVED_DESCRIPTORS)
        for sock in self.sockets:
            self.servers.append(
                await self.loop.create_server(
                    lambda: FrontProtocol(self), sock=sock.sock, backlog=self.cfg.backlog
                )
            )
        # What is there now stays; looking through it again and again would be felt.
        gc.collect()
        gc.freeze()
        # Each request leaves a few small objects that hold each other (Werkzeug's matcher): 1 MB.
        gc.set_threshold(10_000, 5, 100)
        while self.alive and self.ppid == os.getppid():
            self.notify()
            self._sweep()
            await asyncio.sleep(limits.SWEEP_SECONDS)
        await self._end()

    def _sweep(self) -> None:
        """End what is past its deadline."""
        now = self.loop.time()
        for connection, deadline in list(self.late.items()):
            if deadline > now:
                break
            del self.late[connection]
            self._give_up(connection)
        for connection, (since, waiting) in list(self.stuck.items()):
            if now - since < limits.SLOW_SECONDS:
                continue
            left = _not_taken(connection.transport)
            if waiting - left < self._min_rate * (now - since):
                del self.stuck[connection]
                connection.transport.abort()
            else:
                self.stuck[connection] = now, left

    def _stop(self) -> None:
        # Two seconds are left for the answers under way.
        parts = self.app.wsgi().extensions["ingest_parts"]
        parts.close(self.cfg.graceful_timeout - limits.LINGER_SECONDS)
        self.alive = False

    async def _end(self) -> None:
        """Let the answers under way be taken; whoever has not asked has nothing to wait for."""
        for server in self.servers:
            server.close()
        deadline = self.loop.time() + limits.LINGER_SECONDS * 0.75
        while self.connections and self.loop.time() < deadline:
            self._dismiss_idle()
            await asyncio.sleep(0.02)
            self.notify()
        for connection in list(self.connections):
            connection.transport.abort()
        self.asgi.close()

    def _dismiss_idle(self) -> None:
        """End the wait for heads, but of those who have only just come: they are about to ask."""
        latest = self.loop.time() + limits.HEAD_SECONDS - limits.ASK_SECONDS
        for connection, deadline in list(self.late.items()):
            if deadline <= latest:
                del self.late[connection]
                self._give_up(connection)


def _let_go(connection: FrontProtocol) -> None:
    """Part a connection from what has it: together they would stay, see `tracebacks.let_go`."""
    connection._callback_parser = connection._body_receiver = None  # noqa: SLF001 - see `names`


def _not_taken(transport: Any) -> int:
    """Return how much of what was sent the client has not taken, the system's buffer included.

    The system takes more only when a good part of its buffer is free, which is too coarse.
    """
    here: int = transport.get_write_buffer_size()
    try:
        client = transport.get_extra_info("socket")
        there = fcntl.ioctl(client.fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):
        return here
    return here + int.from_bytes(there, sys.byteorder)


def _descriptors() -> int:
    """Return how many files this process may have open, having raised that to what is allowed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.MAX_CONNECTIONS + limits.RESERVED_DESCRIPTORS
    allowed = wanted if most == resource.RLIM_INFINITY else min(most, wanted)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
