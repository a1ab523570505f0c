"""Does it stay as it is? An hour of mixed work at an even rate; its last quarter beside the first.

Linux only: it looks at the process that serves through /proc.
"""

import itertools
import json
import os
import random
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, cast

import apsw

from benchmarks._measure import Row, Table, seconds, size
from benchmarks._server import JSON, Server, request, serving

MINUTES = 60
CLIENTS = 12
#: What they do a second, all together: little, because what creeps does so at any load.
DEEDS_A_SECOND = 10.0
#: Seconds between two large requests: evenly, so that each quarter has as many.
LARGE_EVERY = 15.0
#: Idempotency keys of a client. They are kept for a day, so the same few are used again.
KEYS = 20
#: Seconds between two looks at the process.
PERIOD = 3.0
SETTINGS: dict[str, object] = {
    "interval": 0,
    "settle": 0,
    "simulated_latency": 0.002,
    "max_concurrent_batches": 4,
    "batch_size_ids": 50,
    "retention": "30s",
    "log_level": "WARNING",
}
#: How long things are kept (above, and a minute in memory): until then everything grows.
WARM_UP = 100.0
#: Seconds after the last request in which everything is forgotten and the file gets smaller.
FORGETTING = 90.0
LARGE = 20_000
#: At most so many times what it was in the first quarter.
STEADY = 1.02


class Sample(NamedTuple):
    """The server at one moment; sizes in bytes, the last three in rows."""

    resident: int
    threads: int
    descriptors: int
    wal: int
    file: int
    #: Of the file, not in use.
    free: int
    ingestions: int
    starts: int
    keys: int
    #: Answers so far.
    answers: int


@dataclass
class Tally:
    """What the clients have seen."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    answers: Counter[str] = field(default_factory=Counter)
    #: (when, how long) of small posts.
    posts: list[tuple[float, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def note(self, what: str, status: int, expected: int, body: bytes) -> None:
        """Count an answer; keep it if it is not the expected one."""
        with self.lock:
            self.answers[f"{what} {status}"] += 1
            if status != expected and len(self.wrong) < 20:
                self.wrong.append(f"{what}: {status} instead of {expected}: {body[:300]!r}")


def tables(minutes: int = MINUTES) -> Iterator[Table]:
    """Work for `minutes`, then compare."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        journal = folder / "ingest.sqlite3"
        with serving(folder, SETTINGS | {"journal": journal}) as server:
            tally, samples = _work(server, journal, minutes * 60)
            time.sleep(FORGETTING)
            left = _look(server.pid, journal, tally)
        log = next(folder.glob("gunicorn-*.log")).read_text()
    for name, count in sorted(tally.answers.items()):
        print(f"{count:9,} {name}")
    if tally.wrong or '"level"' in log:
        raise RuntimeError("\n".join((*tally.wrong, log[-5_000:])))
    kept = samples[int(len(samples) * min(WARM_UP / (minutes * 60), 0.25)) :]
    yield from _compare(kept, left, tally)


def _work(server: Server, journal: Path, duration: float) -> tuple[Tally, list[Sample]]:
    tally, stop = Tally(), threading.Event()
    clients = [
        threading.Thread(target=Client(server, tally, stop, number).run)
        for number in range(CLIENTS)
    ]
    large = Client(server, tally, stop, CLIENTS)
    clients.append(threading.Thread(target=large.run_large))
    for client in clients:
        client.start()
    samples = []
    pid, end = server.pid, time.perf_counter() + duration
    try:
        while time.perf_counter() < end:
            time.sleep(PERIOD)
            samples.append(_look(pid, journal, tally))
            if len(samples) % 20 == 1:
                print(samples[-1], flush=True)
    finally:
        stop.set()
        for client in clients:
            client.join()
    return tally, samples


class Client:
    """Does this and that, and follows most of what it posts to its end, so that no queue grows."""

    def __init__(self, server: Server, tally: Tally, stop: threading.Event, number: int) -> None:
        self._server = server
        self._tally = tally
        self._stop = stop
        self._number = number
        self._random = random.Random(number)
        self._count = itertools.count()
        #: What each key stands for.
        self._keyed: dict[str, str] = {}
        self._connection = server.connect()

    def run(self) -> None:
        """Do this and that until told to stop, whatever happens."""
        deeds: list[Callable[[], None]] = [
            self._small,
            self._with_key,
            self._bad,
            self._reconnect,
            self._break_off,
        ]
        weights = [60, 20, 20, 5, 3]
        self._repeat(lambda: self._random.choices(deeds, weights)[0](), CLIENTS / DEEDS_A_SECOND)

    def run_large(self) -> None:
        """The same with nothing but large requests."""
        self._repeat(lambda: self._follow(self._post(self._body(LARGE, "LOW"))), LARGE_EVERY)

    def _repeat(self, deed: Callable[[], None], period: float) -> None:
        due = time.monotonic() + period * self._random.random()
        try:
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                deed()
                due = max(due + period, time.monotonic())
        except Exception as error:  # noqa: BLE001 - shown at the end
            self._tally.note(f"client {error!r}", 0, 200, b"")
        finally:
            self._connection.close()

    def _small(self) -> None:
        began = time.perf_counter()
        status = self._post(self._body(self._random.randint(1, 100)))
        with self._tally.lock:
            self._tally.posts.append((began, time.perf_counter() - began))
        self._follow(status)

    def _with_key(self) -> None:
        number = next(self._count) % KEYS
        key = f"{self._number}-{number}"
        headers = JSON | {"Idempotency-Key": key}
        body = json.dumps({"ids": [*range(1, 11 + number)], "priority": "HIGH"}).encode()
        first, again = self._post(body, headers), self._post(body, headers)
        is_new = key not in self._keyed
        if not first == again == self._keyed.setdefault(key, first):
            self._tally.note(f"key: {first} {again}", 0, 200, b"")
        self._ask("key reused", "POST", "/ingest", 422, self._body(1), headers)
        if is_new:
            self._follow(first)

    def _bad(self) -> None:
        what, method, path, expected, body = self._random.choice(_BAD)
        self._ask(what, method, path, expected, body)

    def _reconnect(self) -> None:
        self._connection.close()
        self._connection = self._server.connect()

    def _break_off(self) -> None:
        """Leave in the middle of a request."""
        head = b"POST /ingest HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
        sent = self._random.randrange(len(head) + 1)
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._server.port)) as sock:
            sock.sendall(head[:sent] if self._random.random() < 0.5 else head + b'{"ids": [1')

    def _follow(self, status: str) -> None:
        wait = 0.005
        while not self._stop.is_set():
            found = json.loads(self._ask("status", "GET", f"{status}?limit=10", 200))
            if found["finished_at"] is not None:
                self._ask("results", "GET", f"{status}/results?limit=100", 200)
                return
            self._stop.wait(wait)
            wait = min(2 * wait, 0.5)

    def _body(self, count: int, priority: str = "") -> bytes:
        ids = self._random.choices(range(1, 1_000_000_007), k=count)
        named = priority or self._random.choice(("HIGH", "MEDIUM"))
        return json.dumps({"ids": ids, "priority": named}).encode()

    def _post(self, body: bytes, headers: Mapping[str, str] = JSON) -> str:
        accepted = json.loads(self._ask("post", "POST", "/ingest", 200, body, headers))
        return f"/status/{accepted['ingestion_id']}"

    def _ask(
        self,
        what: str,
        method: str,
        path: str,
        expected: int,
        body: bytes | None = None,
        headers: Mapping[str, str] = JSON,
    ) -> bytes:
        status, answer = _request(self._connection, method, path, body, headers)
        self._tally.note(what, status, expected, answer)
        return answer


def _request(
    connection: HTTPConnection,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str],
) -> tuple[int, bytes]:
    try:
        return request(connection, method, path, body, headers)
    except (ConnectionError, OSError):
        # The server may end a kept connection at any time; once more on a new one.
        connection.close()
        return request(connection, method, path, body, headers)


_NOWHERE = "/status/00000000-0000-4000-8000-000000000000"
_BAD = (
    ("not JSON", "POST", "/ingest", 400, b"{"),
    ("not an object", "POST", "/ingest", 400, b"[1]"),
    ("nothing", "POST", "/ingest", 400, b""),
    ("deep", "POST", "/ingest", 400, b"[" * 10_000),
    ("huge integer", "POST", "/ingest", 400, b'{"ids": [' + b"9" * 5_000 + b"]}"),
    ("wrong type", "POST", "/ingest", 400, b'{"ids": ["a", 1.5], "priority": "HIGH"}'),
    ("unknown key", "POST", "/ingest", 400, b'{"ids": [1], "priority": "HIGH", "x": 1}'),
    ("unknown id", "GET", _NOWHERE, 404, None),
    ("unknown id's results", "GET", _NOWHERE + "/results", 404, None),
    ("bad page", "GET", _NOWHERE + "?limit=x", 400, None),
    ("unknown path", "GET", "/nowhere", 404, None),
    ("wrong method", "DELETE", "/ingest", 405, None),
)


_COUNTS = """
SELECT (SELECT freelist_count FROM pragma_freelist_count)
         * (SELECT page_size FROM pragma_page_size),
       (SELECT count(*) FROM ingestion),
       (SELECT count(*) FROM start),
       (SELECT count(*) FROM idempotency_key)
"""


def _look(pid: int, journal: Path, tally: Tally) -> Sample:
    process = Path(f"/proc/{pid}")
    status = dict(
        line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line
    )
    free, ingestions, starts, keys = _read(journal)
    with tally.lock:
        answers = tally.answers.total()
    return Sample(
        int(status["VmRSS"].split()[0]) * 1024,
        int(status["Threads"]),
        len(os.listdir(process / "fd")),
        journal.with_name(journal.name + "-wal").stat().st_size,
        journal.stat().st_size,
        free,
        ingestions,
        starts,
        keys,
        answers,
    )


def _read(journal: Path) -> tuple[int, int, int, int]:
    """Return the unused bytes and how many rows there are, as in `Sample`."""
    db = apsw.Connection(str(journal), flags=apsw.SQLITE_OPEN_READONLY)
    db.set_busy_timeout(1_000)
    try:
        (found,) = db.execute(_COUNTS).fetchall()
    finally:
        db.close()
    return cast(tuple[int, int, int, int], found)


def _compare(samples: list[Sample], left: Sample, tally: Tally) -> Iterator[Table]:
    quarter = len(samples) // 4
    quarters = samples[:quarter], samples[-quarter:]

    def row(what: str, name: str, limit: float | None = STEADY) -> Row:
        first, last = (statistics.median(getattr(each, name) for each in part) for part in quarters)
        return Row(what, last, "first quarter", max(first, 1), limit)

    file = row("journal's file", "file")
    sizes = [
        row("resident memory", "resident"),
        file,
        row("of that unused", "free", None),
        row("journal's WAL", "wal"),
        Row("file, when all is forgotten", left.file, "last quarter", file.figure, 0.5),
    ]
    yield Table("Last quarter: memory and disk", size, sizes)
    counts = [
        row("threads", "threads"),
        row("open files and connections", "descriptors"),
        row("ingestions kept", "ingestions", None),
        row("batch starts kept", "starts", None),
        row("idempotency keys, kept for 24 hours", "keys", None),
    ]
    yield Table("Last quarter: numbers", lambda value: f"{value:,.0f}", counts)
    yield _speed(tally)


def _speed(tally: Tally) -> Table:
    posts = [took for _, took in sorted(tally.posts)]
    posts = posts[len(posts) // 20 :]
    quarter = len(posts) // 4
    first, last = sorted(posts[:quarter]), sorted(posts[-quarter:])
    rows = [
        Row(what, last[int(len(last) * at)], "first quarter", first[int(len(first) * at)], limit)
        for what, at, limit in (("median", 0.5, 1.25), ("99th percentile", 0.99, None))
    ]
    return Table("Last quarter: time of a small POST", seconds, rows)
