"""Does it stay as it is? Minutes of mixed work; the second half beside the first.

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

MINUTES = 10.0
CLIENTS = 12
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
LARGE = 20_000


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


def tables(minutes: float = MINUTES) -> Iterator[Table]:
    """Work for `minutes`, then compare."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        journal = folder / "ingest.sqlite3"
        with serving(folder, SETTINGS | {"journal": journal}) as server:
            tally, samples = _work(server, journal, minutes * 60)
        log = next(folder.glob("gunicorn-*.log")).read_text()
    for name, count in sorted(tally.answers.items()):
        print(f"{count:9,} {name}")
    if tally.wrong or '"level"' in log:
        raise RuntimeError("\n".join((*tally.wrong, log[-5_000:])))
    kept = samples[int(len(samples) * min(WARM_UP / (minutes * 60), 0.25)) :]
    yield from _compare(kept, tally)


def _work(server: Server, journal: Path, duration: float) -> tuple[Tally, list[Sample]]:
    tally, stop = Tally(), threading.Event()
    clients = [
        threading.Thread(target=Client(server, tally, stop, number).run)
        for number in range(CLIENTS)
    ]
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
        self._connection = server.connect()

    def run(self) -> None:
        """Go on until told to stop, whatever happens."""
        deeds: list[Callable[[], None]] = [
            self._small,
            self._with_key,
            self._large,
            self._bad,
            self._reconnect,
            self._break_off,
        ]
        weights = [60, 20, 1, 20, 5, 3]
        try:
            while not self._stop.is_set():
                (deed,) = self._random.choices(deeds, weights)
                deed()
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
        headers = JSON | {"Idempotency-Key": f"{self._number}-{next(self._count)}"}
        body = self._body(10)
        first, again = self._post(body, headers), self._post(body, headers)
        if first != again:
            self._tally.note(f"key: {first} {again}", 0, 200, b"")
        other = self._body(11)
        self._ask("key reused", "POST", "/ingest", 422, other, headers)
        self._follow(first)

    def _large(self) -> None:
        self._follow(self._post(self._body(LARGE, "LOW")))

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


def _compare(samples: list[Sample], tally: Tally) -> Iterator[Table]:
    half = len(samples) // 2
    halves = samples[:half], samples[half:]

    def row(what: str, name: str, limit: float | None = None) -> Row:
        first, second = (statistics.median(getattr(each, name) for each in part) for part in halves)
        return Row(what, second, "first half", max(first, 1), limit)

    sizes = [
        row("resident memory", "resident", 1.1),
        row("journal's WAL", "wal", 1.5),
        row("journal's file", "file"),
        row("of that unused", "free"),
    ]
    yield Table("Second half: memory and disk", size, sizes)
    counts = [
        row("threads", "threads", 1.1),
        row("open files and connections", "descriptors", 1.5),
        row("ingestions kept", "ingestions"),
        row("batch starts kept", "starts"),
        row("idempotency keys, kept for 24 hours", "keys"),
    ]
    yield Table("Second half: numbers", lambda value: f"{value:,.0f}", counts)
    yield _speed(tally)


def _speed(tally: Tally) -> Table:
    posts = [took for _, took in sorted(tally.posts)]
    posts = posts[len(posts) // 5 :]
    half = len(posts) // 2
    first, second = sorted(posts[:half]), sorted(posts[half:])
    rows = [
        Row(what, second[int(len(second) * at)], "first half", first[int(len(first) * at)], limit)
        for what, at, limit in (("median", 0.5, 1.25), ("99th percentile", 0.99, None))
    ]
    return Table("Second half: time of a small POST", seconds, rows)
