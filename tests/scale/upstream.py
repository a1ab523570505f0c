"""An upstream that writes down when each batch reached it: a process of its own, for its time."""

import json
import os
import selectors
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


class Arrival(NamedTuple):
    """A batch that reached the upstream: when (monotonic), its key, its ids."""

    at: float
    key: str
    ids: tuple[int, ...]


def read_arrivals(record: Path) -> list[Arrival]:
    """Return what was written down, in order."""
    arrivals = []
    for line in record.read_text().splitlines():
        at, key, ids = json.loads(line)
        arrivals.append(Arrival(at, key, tuple(ids)))
    return arrivals


@dataclass
class _Client:
    received: bytearray = field(default_factory=bytearray)
    began: float = 0.0


class _Upstream:
    def __init__(self, port: int, record: Path, latency: float) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._record = record.open("a", buffering=1)
        self._latency = latency
        self._due: list[tuple[float, socket.socket, bytes]] = []

    def serve(self) -> None:
        while True:
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, connection, answer = self._due.pop(0)
                with suppress(OSError):
                    connection.sendall(answer)
            timeout = self._due[0][0] - now if self._due else None
            for key, _ in self._selector.select(timeout):
                if key.fileobj is self._listener:
                    connection, _ = self._listener.accept()
                    self._selector.register(connection, selectors.EVENT_READ, _Client())
                else:
                    self._read(key.fileobj, key.data)

    def _read(self, connection: Any, client: _Client) -> None:
        at = time.monotonic()
        try:
            data = connection.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(connection)
            connection.close()
            return
        if not client.received:
            client.began = at
        client.received += data
        head, found, body = bytes(client.received).partition(b"\r\n\r\n")
        if not found:
            return
        headers = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:])
        headers = {name.lower(): value for name, value in headers.items()}
        if len(body) < int(headers["content-length"]):
            return
        client.received.clear()
        ids = json.loads(body)["ids"]
        key = headers.get("idempotency-key", "")
        self._record.write(json.dumps([client.began, key, ids]) + "\n")
        results = [{"id": each, "status": "succeeded"} for each in ids]
        text = json.dumps({"results": results}).encode()
        top = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}"
        answer = top.encode() + b"\r\n\r\n" + text
        self._due.append((at + self._latency, connection, answer))


if __name__ == "__main__":
    with suppress(OSError):
        # Whoever measures must not wait for those who are measured.
        os.nice(-10)
    _Upstream(int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])).serve()
