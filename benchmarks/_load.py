"""Clients that send as fast as they are answered, cheap enough to leave the server the machine."""

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import uvloop

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length: "


@dataclass(frozen=True, slots=True)
class Load:
    """What a number of requests took."""

    seconds: float
    latencies: Sequence[float]

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.latencies) / self.seconds

    @property
    def p99(self) -> float:
        """Seconds within which 99 of 100 were answered."""
        return statistics.quantiles(self.latencies, n=100)[-1]


def request_bytes(method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
    """Return a whole request; `headers` are further lines of its head."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    if body:
        head += f"Content-Length: {len(body)}\r\n"
    return (head + headers).encode() + b"\r\n" + body


def load(
    port: int, make: Callable[[], bytes], clients: int, requests: int, status: bytes = b"200"
) -> Load:
    """Send so many requests over so many connections that are kept; all must get `status`."""
    return uvloop.run(_load(port, make, clients, requests, status))


async def _load(
    port: int, make: Callable[[], bytes], clients: int, requests: int, status: bytes
) -> Load:
    latencies: list[float] = []
    left = [requests]
    connected = [await asyncio.open_connection("127.0.0.1", port) for _ in range(clients)]
    began = time.perf_counter()
    await asyncio.gather(*(_client(*each, make, left, latencies, status) for each in connected))
    seconds = time.perf_counter() - began
    for _, writer in connected:
        writer.close()
    return Load(seconds, latencies)


async def _client(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    make: Callable[[], bytes],
    left: list[int],
    latencies: list[float],
    status: bytes,
) -> None:
    while left[0] > 0:
        left[0] -= 1
        began = time.perf_counter()
        writer.write(make())
        head = await reader.readuntil(_END_OF_HEAD)
        if not head.startswith(b"HTTP/1.1 " + status):
            raise RuntimeError(head)
        at = head.lower().index(_LENGTH) + len(_LENGTH)
        await reader.readexactly(int(head[at : head.index(b"\r", at)]))
        latencies.append(time.perf_counter() - began)
