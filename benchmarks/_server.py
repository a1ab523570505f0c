"""A real gunicorn, as an operator runs it, on a free port of this machine."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_BOOT_SECONDS = 60.0
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Server:
    """A gunicorn that answers."""

    port: int
    #: The process that starts the one that serves.
    parent: int
    #: Seconds from its start to its first answer.
    boot: float

    @property
    def pid(self) -> int:
        """The process that serves; asks Linux."""
        children = Path(f"/proc/{self.parent}/task/{self.parent}/children").read_text()
        return int(children.split()[0])

    def connect(self) -> HTTPConnection:
        """Return a connection, which is kept until it is closed."""
        return HTTPConnection("127.0.0.1", self.port, timeout=_BOOT_SECONDS)


@contextmanager
def serving(
    folder: Path, settings: Mapping[str, object], app: str = "wsgi:app"
) -> Iterator[Server]:
    """Run gunicorn with `settings` alone, whatever this shell has; its log goes to `folder`.

    It listens until the end of the `with` block.
    """
    port = free_port()
    environ = {name: text for name, text in os.environ.items() if not name.startswith("INGEST_")}
    environ |= {f"INGEST_{name.upper()}": str(value) for name, value in settings.items()}
    log = folder / f"gunicorn-{port}.log"
    began = time.perf_counter()
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", app],
            cwd=_ROOT,
            env=environ | {"PORT": str(port)},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        await_answer(process, port, log)
        yield Server(port, process.pid, time.perf_counter() - began)
    finally:
        process.terminate()
        process.wait()


def request(
    connection: HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] = JSON,
) -> tuple[int, bytes]:
    """Send a request; return the status and the body of the answer."""
    connection.request(method, path, body, dict(headers))
    answer = connection.getresponse()
    return answer.status, answer.read()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def await_answer(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.perf_counter() + _BOOT_SECONDS
    while process.poll() is None and time.perf_counter() < deadline:
        connection = HTTPConnection("127.0.0.1", port, timeout=_BOOT_SECONDS)
        try:
            if request(connection, "GET", "/health")[0] == 200:
                return
        except ConnectionError:
            time.sleep(0.005)
        finally:
            connection.close()
    raise RuntimeError(log.read_text())
