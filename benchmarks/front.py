"""Requests a second over real sockets, against the same contract as a FastAPI application."""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from benchmarks._load import Load, load, request_bytes
from benchmarks._measure import Row, Table, seconds
from benchmarks._server import await_answer, free_port, request, serving

CLIENTS = 16
REQUESTS = 3_000
ROUNDS = 5
BODY = json.dumps({"ids": [1, 2, 3, 4, 5], "priority": "MEDIUM"}).encode()
_PLAIN = ("--loop", "asyncio", "--http", "h11")
_FAST = ("--loop", "uvloop", "--http", "httptools")


@dataclass
class Subject:
    """A server, and what it took."""

    port: int
    pid: int
    posts: list[Load] = field(default_factory=list)
    gets: list[Load] = field(default_factory=list)
    #: Seconds of its own time a POST.
    cpu: list[float] = field(default_factory=list)

    def measure(self) -> None:
        """Post for a while, then ask for what was posted."""
        before = _cpu(self.pid)
        self.posts.append(load(self.port, _post, CLIENTS, REQUESTS))
        self.cpu.append((_cpu(self.pid) - before) / REQUESTS)
        self.gets.append(load(self.port, self._ask(), CLIENTS, REQUESTS))

    def _ask(self) -> Callable[[], bytes]:
        ids = []
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        for _ in range(50):
            _, text = request(connection, "POST", "/ingest", BODY)
            ids.append(json.loads(text)["ingestion_id"])
        connection.close()
        asked = itertools.cycle(request_bytes("GET", f"/status/{each}") for each in ids)
        return lambda: next(asked)


def tables() -> Iterator[Table]:
    """Measure in turns, so that whatever slows the machine slows all of them."""
    settings: dict[str, object] = {"interval": 86_400, "settle": 86_400}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings["journal"] = folder / "journal.sqlite3"
        server = stack.enter_context(serving(folder, settings))
        ours = Subject(server.port, server.pid)
        plain = stack.enter_context(_yardstick(folder, *_PLAIN))
        fast = stack.enter_context(_yardstick(folder, *_FAST))
        for subject in (ours, plain, fast):
            load(subject.port, _post, CLIENTS, 300)
        for _ in range(ROUNDS):
            for subject in (ours, plain, fast):
                subject.measure()
    yield Table(
        "Requests a second, 16 clients",
        _rate,
        [
            Row(
                "durable POST of 5 ids",
                _median(ours.posts, "rate"),
                "FastAPI + uvicorn in memory",
                _median(plain.posts, "rate"),
                at_least=1.1,
            ),
            Row(
                "the same",
                _median(ours.posts, "rate"),
                "with uvloop and httptools",
                _median(fast.posts, "rate"),
            ),
            Row(
                "GET /status of it",
                _median(ours.gets, "rate"),
                "FastAPI + uvicorn in memory",
                _median(plain.gets, "rate"),
                at_least=1.0,
            ),
            Row(
                "the same",
                _median(ours.gets, "rate"),
                "with uvloop and httptools",
                _median(fast.gets, "rate"),
            ),
        ],
    )
    yield Table(
        "Time of a durable POST of 5 ids",
        seconds,
        [
            Row(
                "99 of 100 within",
                _median(ours.posts, "p99"),
                "FastAPI + uvicorn in memory",
                _median(plain.posts, "p99"),
                limit=1.0,
            ),
            Row(
                "processor",
                median(ours.cpu),
                "FastAPI + uvicorn in memory",
                median(plain.cpu),
                limit=1.0,
            ),
            Row("processor", median(ours.cpu), "with uvloop and httptools", median(fast.cpu)),
        ],
    )


def _post() -> bytes:
    return _POST


_POST = request_bytes("POST", "/ingest", BODY)


def _rate(value: float) -> str:
    return f"{value:,.0f}/s"


def _median(loads: list[Load], what: str) -> float:
    return float(median(getattr(each, what) for each in loads))


def _cpu(pid: int) -> float:
    """Return the seconds of processor time a process has had; asks Linux."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _yardstick(folder: Path, *options: str) -> Iterator[Subject]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks._yardstick:app", "--port", str(port)]
    log = folder / f"uvicorn-{port}.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [*command, "--no-access-log", *options], stdout=stderr, stderr=stderr
        )
    try:
        await_answer(process, port, log)
        yield Subject(port, process.pid)
    finally:
        process.terminate()
        process.wait()
