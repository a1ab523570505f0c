"""The whole service in real time, and servers on real sockets that misbehave on demand."""

import contextlib
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ingest_service.app import Parts, build
from ingest_service.domain.ingestion import IngestionSnapshot
from ingest_service.domain.items import Ids, Kind, Mappings
from ingest_service.domain.model import ItemState, Outcome, Priority
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.settings import Settings
from ingest_service.upstreams.protocol import Upstream

#: How long a test waits for anything before it fails, in real seconds.
GUARD = 10.0

#: As fast as it gets; the journal is none.
QUICK: dict[str, Any] = {
    "interval": 0,
    "settle": 0,
    "backoff": 0.01,
    "backoff_max": 0.02,
    "upstream_timeout": 5,
}


def eventually(what: str, condition: Callable[[], object]) -> None:
    """Return as soon as `condition()` is true; fail after `GUARD` seconds."""
    deadline = time.monotonic() + GUARD
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.002)


@dataclass
class Service:
    """The service without its HTTP face."""

    parts: Parts

    def send(self, ids: Sequence[int]) -> str:
        """Accept ids; return the id of the ingestion."""
        return self.parts.service.submissions.accept(Ids(ids), Priority.MEDIUM).ingestion_id

    def send_mappings(self, *names: str) -> str:
        """Accept mappings called `names`; return the id of the ingestion."""
        mappings = [{"id": name, "source": "s", "target": "t"} for name in names]
        return self.parts.service.submissions.accept(
            Mappings(mappings), Priority.MEDIUM
        ).ingestion_id

    def snapshot(self, ingestion_id: str) -> IngestionSnapshot:
        """Return how an ingestion is now."""
        return self.parts.service.queries.status(ingestion_id, 0, 1000)

    def finish(self, ingestion_id: str) -> list[Outcome]:
        """Wait until an ingestion is finished; return the outcomes of its items."""
        eventually("the end", lambda: self.snapshot(ingestion_id).finished_at is not None)
        return self.outcomes(ingestion_id)

    def outcomes(self, ingestion_id: str) -> list[Outcome]:
        """Return the outcomes there are so far."""
        final = [ItemState.SUCCEEDED, ItemState.FAILED]
        _, results = self.parts.service.queries.results(ingestion_id, final, 0, 1000)
        return [result.outcome for result in results]


@contextmanager
def running(
    upstream: str | Upstream, *, journal: Path | None = None, **changes: Any
) -> Iterator[Service]:
    """Run the service in front of `upstream`: the address of one, or one."""
    knobs = QUICK | changes
    if isinstance(upstream, str):
        knobs["upstream"] = upstream
    parts = build(
        Settings(**knobs),
        upstream=None if isinstance(upstream, str) else upstream,
        journal=SqliteJournal(journal) if journal else None,
    )
    parts.worker.start()
    try:
        yield Service(parts)
    finally:
        parts.close(timeout=0.05 if journal else GUARD)


@dataclass(frozen=True)
class Request:
    """What reached a server."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        """Its idempotency key."""
        return self.headers["idempotency-key"]

    @property
    def attempt(self) -> int:
        """Which attempt it says it is."""
        return int(self.headers["x-ingest-attempt"])


#: Does what it likes with the connection; whether that goes on tells the result.
Act = Callable[[socket.socket], bool]
Reply = bytes | Act


def answer(status: int = 200, body: object = None, **headers: str) -> bytes:
    """Return a sound answer; what is not bytes is sent as JSON."""
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    fields = {"Content-Type": "application/json", "Content-Length": str(len(text))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + text


def self_signed(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return a certificate for 127.0.0.1 that vouches for itself, and what serves it."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
    command += f"-subj /CN=upstream -addext subjectAltName=IP:127.0.0.1 -out {certificate}"
    subprocess.run([*command.split(), "-keyout", key], check=True, capture_output=True)  # noqa: S603
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context


def cut(text: bytes) -> Act:
    """Send `text` and hang up."""

    def act(connection: socket.socket) -> bool:
        connection.sendall(text)
        return False

    return act


def reset(connection: socket.socket) -> bool:
    """Break the connection off."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def silence(connection: socket.socket) -> bool:
    """Say nothing until the other side hangs up."""
    connection.recv(1)
    return False


def drip(text: bytes, pause: float) -> Act:
    """Send `text` byte by byte."""

    def act(connection: socket.socket) -> bool:
        for byte in text:
            connection.sendall(bytes([byte]))
            time.sleep(pause)
        return False

    return act


@dataclass
class Scripted:
    """A server that answers every request with what `reply` makes of it, byte for byte."""

    reply: Callable[[Request], Reply]
    tls: ssl.SSLContext | None = None
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> "Scripted":
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(GUARD)
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(GUARD)
        self._listener.close()

    @property
    def items(self) -> str:
        """The setting that sends items here."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/items/{{id}}"

    @property
    def batch(self) -> str:
        """The setting that sends batches here."""
        return f"batch+http://127.0.0.1:{self.port}/batch"

    def has_hung_up(self) -> bool:
        """Tell whether every connection so far was closed here."""
        return not any(thread.is_alive() for thread in self._threads[1:])

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=[connection], daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            self._open.append(connection)
            with connection, connection.makefile("rb") as stream:
                while self._respond(connection, stream):
                    pass

    def _respond(self, connection: socket.socket, stream: Any) -> bool:
        head = stream.readline().decode("ascii").split()
        if len(head) != 3:
            return False
        headers = {}
        while line := stream.readline().decode("ascii").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = stream.read(int(headers.get("content-length", 0)))
        request = Request(head[0], head[1], headers, body)
        with self._lock:
            self.requests.append(request)
            reply = self.reply(request)
        if not isinstance(reply, bytes):
            return reply(connection)
        connection.sendall(reply)
        return True


def kinds(service: Service, kind: Kind) -> str:
    """Accept three items of a kind; return the id of the ingestion."""
    if kind is Kind.IDS:
        return service.send([1, 2, 3])
    return service.send_mappings("a", "b", "c")
