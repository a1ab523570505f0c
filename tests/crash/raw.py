"""A client that sends exactly the bytes it is told to."""

import http.client
import json
import select
import socket
import time
from types import TracebackType
from typing import Any

from tests.crash.server import Answer

#: Seconds in which an answer has to come.
PATIENCE = 15.0


class Raw:
    """A connection to a server on this machine."""

    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> "Raw":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self.socket.close()

    def send(self, content: bytes) -> None:
        """Send `content` as it is."""
        self.socket.sendall(content)

    def send_each(self, content: bytes) -> None:
        """Send `content` byte by byte."""
        for at in range(len(content)):
            self.socket.sendall(content[at : at + 1])

    def answer(self) -> Answer:
        """Read one answer, which has to be complete."""
        line = self._file.readline()
        assert line.startswith(b"HTTP/1.1 "), line
        headers = http.client.parse_headers(self._file)
        assert len(headers.get_all("Content-Length", [])) <= 1, headers
        length = int(headers.get("Content-Length", "0"))
        body = self._file.read(length)
        assert len(body) == length
        return Answer(int(line.split()[1]), headers, body)

    def is_closed(self) -> bool:
        """Wait for the end of what the server has to say; tell whether nothing but that came."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True

    def is_silent(self, seconds: float) -> bool:
        """Tell whether nothing comes for `seconds`."""
        return not select.select([self.socket], [], [], seconds)[0]


def post(body: bytes, *headers: str) -> bytes:
    """Return a complete request that posts `body`."""
    return head("POST", "/ingest", f"Content-Length: {len(body)}", *headers) + body


def head(method: str, path: str, *headers: str) -> bytes:
    """Return the head of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += ["Content-Type: application/json", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def ids(count: int) -> bytes:
    """Return a body with so many ids."""
    return json.dumps({"ids": list(range(1, count + 1)), "priority": "LOW"}).encode()


def chunked(body: bytes, size: int, trailer: bytes = b"") -> bytes:
    """Return `body` in chunks of `size` bytes."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces) + (
        b"0\r\n" + trailer + b"\r\n"
    )


def slowest(port: int, times: int = 50) -> float:
    """Ask for the health so often, each time on a new connection; return the longest wait."""
    waits = []
    for _ in range(times):
        began = time.monotonic()
        with Raw(port) as client:
            client.send(head("GET", "/health"))
            assert client.answer().status == 200
        waits.append(time.monotonic() - began)
    return max(waits)


def problem(answer: Answer) -> Any:
    """Return the problem in `answer`, which has to be one."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert len(answer.headers.get_all("X-Request-ID", [])) == 1
    found = answer.json()
    assert found["status"] == answer.status
    assert found["detail"] == found["error"]
    return found
