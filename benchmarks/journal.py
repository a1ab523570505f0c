"""What it costs to lose nothing: durable posts, restarts, large requests, draining."""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import apsw

from benchmarks._measure import Row, Table, seconds, take_turns
from benchmarks._server import Server, request, serving
from ingest_service import create_app
from ingest_service.engines.embedded.journals.files import back_up
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.settings import IN_MEMORY, Settings

MILLION = 1_000_000
MAX_ID = 1_000_000_007
CLIENTS = 16
#: The clients share so many processes; a single one would be slower than the server.
CLIENT_PROCESSES = 2
ROUNDS = 4
ROUND_SECONDS = 1.5
#: Nothing is sent meanwhile.
WAITING: dict[str, Any] = {
    "interval": 86_400,
    "settle": 86_400,
    "max_queued_items": 10**9,
    "max_ingestions": 10**6,
}
#: So many times an empty start, at most.
RESTART_LIMIT = 4.0
DRAINED = 2_000

_SMALL = b'{"ids": [1, 2, 3, 4, 5], "priority": "HIGH"}'


def tables() -> Iterator[Table]:
    """Measure everything about the journal."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        yield from _posting(folder)
        yield _restarting(folder)
        yield from _living(folder, folder / "100000.sqlite3")
        yield _draining(folder)


class _Posted(NamedTuple):
    """What one round of posting came to."""

    #: Seconds a post, all clients together.
    each: float
    #: Seconds each one took.
    durations: Sequence[float]


def _posting(folder: Path) -> Iterator[Table]:
    """Compare servers that take turns."""
    kinds = {
        "journal": (folder / "posts.sqlite3", "wsgi:app"),
        "memory": (IN_MEMORY, "wsgi:app"),
        "one commit": (folder / "single.sqlite3", "benchmarks._one_commit:app"),
    }
    rounds: dict[str, list[_Posted]] = {name: [] for name in kinds}
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(serving(folder, WAITING | {"journal": journal}, app))
            for name, (journal, app) in kinds.items()
        }
        clients = stack.enter_context(
            ProcessPoolExecutor(CLIENT_PROCESSES, mp_context=get_context("spawn"))
        )
        for server in servers.values():
            _post_together(clients, server, ROUND_SECONDS / 3)
        for _ in range(ROUNDS):
            for name, server in servers.items():
                rounds[name].append(_post_together(clients, server, ROUND_SECONDS))
    each = {name: statistics.median(one.each for one in found) for name, found in rounds.items()}
    late = {
        name: _percentile([took for one in found for took in one.durations], 0.99)
        for name, found in rounds.items()
    }
    others = ("memory", "in memory", 1.5), ("one commit", "one commit a request", None)
    yield Table(
        f"POST, {CLIENTS} clients: all together; the ratio is that of the time",
        lambda value: f"{1 / value:,.0f} a second",
        [
            Row("with a journal", each["journal"], what, each[name], aim)
            for name, what, aim in others
        ],
    )
    yield Table(
        f"POST, {CLIENTS} clients: 99th percentile",
        seconds,
        [Row("with a journal", late["journal"], what, late[name]) for name, what, _ in others],
    )


def _post_together(clients: ProcessPoolExecutor, server: Server, duration: float) -> _Posted:
    threads = CLIENTS // CLIENT_PROCESSES
    parts = [clients.submit(_post_for, duration, server, threads) for _ in range(CLIENT_PROCESSES)]
    durations = [took for part in parts for took in part.result()]
    return _Posted(duration / len(durations), durations)


def _post_for(duration: float, server: Server, threads: int) -> list[float]:
    """Post from `threads` kept connections; return how long each post took."""
    until = time.perf_counter() + duration
    with ThreadPoolExecutor(threads) as pool:
        parts = [pool.submit(_post_on_one, server, until) for _ in range(threads)]
        return [took for part in parts for took in part.result()]


def _post_on_one(server: Server, until: float) -> list[float]:
    connection = server.connect()
    durations = []
    while time.perf_counter() < until:
        began = time.perf_counter()
        status, answer = request(connection, "POST", "/ingest", _SMALL)
        durations.append(time.perf_counter() - began)
        if status != 200:
            raise RuntimeError(answer)
    connection.close()
    return durations


def _percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]


def _restarting(folder: Path) -> Table:
    """Compare starts that take turns: what waits is not to delay the first answer."""
    cases = {
        "nothing": _filled(folder, 0, 0),
        "3 x 1,000,000 ids": _filled(folder, 3, MILLION),
        "10,000 x 100 batches": _filled(folder, 10_000, 300),
        "100,000 x 10 batches": _filled(folder, 100_000, 30),
        "1,000,000 ids, half of them done": _half_done(folder),
    }
    boots: dict[str, list[float]] = {what: [] for what in cases}
    for _ in range(3):
        for what, journal in cases.items():
            with serving(folder, WAITING | {"journal": journal}) as server:
                boots[what].append(server.boot)
    empty, *rest = (statistics.median(found) for found in boots.values())
    rows = [
        Row(what, took, "an empty journal", empty, RESTART_LIMIT)
        for what, took in zip(list(cases)[1:], rest, strict=True)
    ]
    return Table("From the start of the process to its first answer", seconds, rows)


def _filled(folder: Path, ingestions: int, ids: int) -> Path:
    """Return a journal in which so many ingestions of so many ids wait."""
    path = folder / f"{ingestions}.sqlite3"
    if not ingestions:
        SqliteJournal(path).close()
        return path
    _accept(path, ids, WAITING)
    copies = ((n, f"{n:08x}-0000-4000-8000-{n:012x}", n) for n in range(2, ingestions + 1))
    with apsw.Connection(str(path)) as db:
        db.execute(
            "CREATE TEMP TABLE head AS SELECT * FROM ingestion;"
            "CREATE TEMP TABLE body AS SELECT place, items, packing FROM content"
        ).fetchall()
        db.executemany(
            "UPDATE head SET sequence = ?, ingestion_id = ?;"
            "INSERT INTO ingestion SELECT * FROM head;"
            "UPDATE body SET place = (? << 32) | (place & 4294967295);"
            "INSERT INTO content (place, items, packing) SELECT * FROM body",
            copies,
        ).fetchall()
    db.close()
    return path


def _half_done(folder: Path) -> Path:
    """Return a journal in which half the batches of an ingestion are settled."""
    path = folder / "half.sqlite3"
    _accept(path, MILLION, {"interval": 86_400, "settle": 0, "simulated_latency": 0})
    with apsw.Connection(str(path)) as db:
        db.execute(
            "CREATE TEMP TABLE first AS SELECT * FROM start;"
            "CREATE TEMP TABLE outcome AS SELECT * FROM result"
        ).fetchall()
        db.executemany(
            "UPDATE outcome SET result = result + 1; INSERT INTO result SELECT * FROM outcome;"
            "UPDATE first SET batch = ?, result = result + 1;"
            "INSERT INTO start SELECT * FROM first",
            ((n,) for n in range(1, MILLION // 6)),
        ).fetchall()
    db.close()
    return path


def _accept(path: Path, ids: int, settings: dict[str, Any]) -> None:
    """Have an ingestion accepted, and its first batch sent unless that has to wait."""
    app = create_app(Settings(**settings, journal=str(path)))
    try:
        client = app.test_client()
        accepted = client.post("/ingest", json={"ids": [*range(1, ids + 1)], "priority": "LOW"})
        results = f"{accepted.headers['Location']}/results?limit=1"
        while not settings["settle"] and not client.get(results).get_json()["results"]:
            time.sleep(0.01)
    finally:
        app.extensions["ingest_parts"].close(5)


def _living(folder: Path, full: Path) -> Iterator[Table]:
    """Measure large requests, and small ones while the journal is backed up."""
    journal = Path(copy(full, folder / "living.sqlite3"))
    body = json.dumps({"ids": [*range(MAX_ID - MILLION, MAX_ID)], "priority": "LOW"}).encode()
    with ExitStack() as stack:
        server = stack.enter_context(serving(folder, WAITING | {"journal": journal}))
        connection = server.connect()
        large: list[str] = []

        def post() -> None:
            status, answer = request(connection, "POST", "/ingest", body)
            if status != 200:
                raise RuntimeError(answer)
            large.append(json.loads(answer)["ingestion_id"])

        def ask(ingestion_id: str) -> Callable[[], object]:
            return partial(request, connection, "GET", f"/status/{ingestion_id}")

        posted, parsed = take_turns(post, partial(json.loads, body), rounds=5)
        _, answer = request(connection, "POST", "/ingest", json.dumps(_PAGE).encode())
        status, page = take_turns(ask(large[0]), ask(json.loads(answer)["ingestion_id"]), rounds=9)
        yield Table(
            "Large requests over HTTP",
            seconds,
            [
                Row("POST of 1,000,000 ids", posted, "json.loads of the same body", parsed, 3),
                Row("status of 1,000,000 ids", status, "of 30,000 ids, a full page", page, 1.25),
            ],
        )
        yield _backing_up(folder, journal, server)


_PAGE = {"ids": [*range(1, 30_001)], "priority": "LOW"}


def _backing_up(folder: Path, journal: Path, server: Server) -> Table:
    """Compare posts while backups are made with posts before."""
    targets = (folder / f"backup-{n}.sqlite3" for n in range(1_000))
    (alone,) = take_turns(lambda: back_up(str(journal), str(next(targets))), rounds=3)
    quiet = _post_for(ROUND_SECONDS, server, CLIENTS)
    backups: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        posting = pool.submit(_post_for, 2 * ROUND_SECONDS, server, CLIENTS)
        while not posting.done():
            began = time.perf_counter()
            back_up(str(journal), str(next(targets)))
            backups.append(time.perf_counter() - began)
    busy = posting.result()
    size = journal.stat().st_size // 2**20
    rows = [
        Row(f"a backup of {size} MiB, under load", statistics.median(backups), "at rest", alone),
        Row(
            "median POST during backups",
            statistics.median(busy),
            "before",
            statistics.median(quiet),
        ),
        Row("99th percentile", _percentile(busy, 0.99), "before", _percentile(quiet, 0.99)),
    ]
    return Table("Backups while the service runs", seconds, rows)


def _draining(folder: Path) -> Table:
    """Measure what a batch costs when neither the pace nor the upstream holds it up."""
    path = str(folder / "drained.sqlite3")
    durable, memory = (
        statistics.median(_drain(journal) for _ in range(3)) for journal in (path, IN_MEMORY)
    )
    row = Row("with a journal", durable / DRAINED, "in memory", memory / DRAINED)
    return Table(
        "Draining, in batches; the ratio is that of the time",
        lambda value: f"{1 / value:,.0f} a second",
        [row],
    )


def _drain(journal: str) -> float:
    """Return how long it takes until everything is done."""
    app = create_app(Settings(interval=0, settle=0, simulated_latency=0, journal=journal))
    try:
        client = app.test_client()
        ids = list(range(1, 3 * DRAINED + 1))
        began = time.perf_counter()
        client.post("/ingest", json={"ids": ids, "priority": "HIGH"})
        while client.get("/health").get_json()["active_requests"]:
            time.sleep(0.005)
        return time.perf_counter() - began
    finally:
        app.extensions["ingest_parts"].close(5)
