"""Requests a second over real sockets, against the same contract as a FastAPI application."""

import itertools
import json
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from benchmarks._load import Load, load, request_bytes
from benchmarks._measure import Row, Table, seconds, take_turns
from benchmarks._server import Server, await_answer, free_port, request, serving

CLIENTS = 16
REQUESTS = 3_000
ROUNDS = 5
#: Clients that wait for a change, and who posts beside them.
WAITERS = (1_000, 2_000)
POSTS = 1_500
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


_IDLE: dict[str, object] = {"interval": 86_400, "settle": 86_400}


def tables() -> Iterator[Table]:
    """Measure everything about the front."""
    yield from _small()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving(folder, {**_IDLE, "journal": folder / "large.sqlite3"}) as server:
            yield _large(server)
        with serving(folder, {**_IDLE, "journal": folder / "waiting.sqlite3"}) as server:
            yield _beside_waiters(server)


def _large(server: Server) -> Table:
    """Post bodies that are mostly parsed; read and on disk before they are answered."""
    ids = random.Random(1).choices(range(1, 10**9), k=1_000_000)
    mappings = [{"id": f"map_{n}", "source": "s", "target": "t"} for n in range(100_000)]
    rows = []
    # What mappings cost without the network is in `scale`, with its aim.
    for what, items, limit in (("ids", ids, 2.0), ("mappings", mappings, None)):
        body = json.dumps({what: items, "priority": "LOW"}).encode()
        connection = server.connect()
        posted, parsed = take_turns(
            partial(_post_body, connection, body), partial(json.loads, body), rounds=5
        )
        connection.close()
        name = f"durable POST of {len(items):,} {what}"
        rows.append(Row(name, posted, "json.loads of the same body", parsed, limit=limit))
    return Table("Large bodies over HTTP", seconds, rows)


def _post_body(connection: HTTPConnection, body: bytes) -> None:
    status, text = request(connection, "POST", "/ingest", body)
    if status != 200:
        raise RuntimeError(text)


def _beside_waiters(server: Server) -> Table:
    """Post while nobody waits, and while more and more wait for a change that does not come."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    load(server.port, _post, 1, 300)
    alone = load(server.port, _post, 1, POSTS)
    connection = server.connect()
    _, text = request(connection, "POST", "/ingest", BODY)
    connection.close()
    waits = request_bytes("GET", f"/status/{json.loads(text)['ingestion_id']}?wait=60")
    rows = []
    with ExitStack() as stack:
        waiting = 0
        for count in WAITERS:
            for _ in range(count - waiting):
                client = stack.enter_context(
                    socket.create_connection(("127.0.0.1", server.port), timeout=30)
                )
                client.sendall(waits)
            waiting = count
            # By then the last of them waits.
            load(server.port, _post, 1, 300)
            beside = load(server.port, _post, 1, POSTS)
            what = f"POST beside {count:,} clients with ?wait"
            limit = 1.2 if count == WAITERS[0] else None
            rows.append(Row(what, 1 / beside.rate, "with none", 1 / alone.rate, limit=limit))
            rows.append(Row(f"99 of 100 {what}", beside.p99, "with none", alone.p99))
    return Table("Posting beside clients that wait", seconds, rows)


def _small() -> Iterator[Table]:
    """Measure in turns, so that whatever slows the machine slows all of them."""
    settings = dict(_IDLE)
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
