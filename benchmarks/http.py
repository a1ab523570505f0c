"""Items a second through the HTTP upstream, against the same client in a plain loop."""

import itertools
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import orjson
import urllib3

from benchmarks._measure import Row, Table, take_turns
from ingest_service.app import build
from ingest_service.domain.items import Ids
from ingest_service.domain.model import Priority
from ingest_service.settings import BATCH, Settings

ITEMS = 3_000
#: So many that it does not matter when the end is noticed.
ITEMS_IN_BATCHES = 30_000
ROUNDS = 5
#: At least 0.7 times as many items a second.
AIM = 1 / 0.7

_DEMO = "-m ingest_service demo-upstream --port 0 --latency 0 --failures 0 --interval 0"


def tables() -> Iterator[Table]:
    """Measure with an API that answers at once, in another process."""
    with _demo() as address, tempfile.TemporaryDirectory() as folder:
        rows = [
            _row("defaults: 3 at a time", address, size=3, batches=1),
            _row("10 at a time", address, size=10, batches=1),
            _row("5 batches of 2", address, size=2, batches=5),
            *_journal_rows(address, size=3, journal=Path(folder) / "journal.sqlite3"),
            _batch_row("batches of 100 a request", address, size=100),
        ]
    yield Table(
        f"Sending {ITEMS:,} ids over HTTP, {ITEMS_IN_BATCHES:,} in batches; the ratio is of times",
        lambda seconds: f"{1 / seconds:,.0f} items/s",
        rows,
    )


def _row(what: str, address: str, *, size: int, batches: int) -> Row:
    threads = size * batches
    settings = _settings(address, size, batches=batches)
    with _service(settings) as serve, urllib3.PoolManager(maxsize=threads) as pool:
        taken = take_turns(serve, partial(_loop, pool, address, threads), rounds=ROUNDS)
    ours, plain = (seconds / ITEMS for seconds in taken)
    return Row(what, ours, f"urllib3 in {threads} threads", plain, limit=AIM)


def _journal_rows(address: str, *, size: int, journal: Path) -> Iterator[Row]:
    """Measure also against the least that a service with a journal can take, batch by batch."""
    bare = apsw.Connection(str(journal.with_name("bare.sqlite3")))
    bare.execute("PRAGMA journal_mode = wal; PRAGMA synchronous = full").fetchall()
    bare.execute("CREATE TABLE starts (number)").fetchall()
    settings = _settings(address, size, journal=str(journal))
    with _service(settings) as serve, urllib3.PoolManager(maxsize=size) as pool:
        taken = take_turns(
            serve,
            partial(_loop, pool, address, size),
            partial(_loop_in_step, pool, address, size, bare),
            rounds=ROUNDS,
        )
    ours, plain, least = (seconds / ITEMS for seconds in taken)
    bare.close()
    plainly = f"urllib3 in {size} threads"
    yield Row("defaults, with the journal", ours, plainly, plain, limit=AIM)
    yield Row("the same", ours, f"{plainly}, in step, a commit each", least)


def _settings(address: str, size: int, *, batches: int = 1, journal: str = "memory") -> Settings:
    return Settings(
        interval=0,
        settle=0,
        upstream=f"{address}/items/{{id}}",
        batch_size_ids=size,
        max_concurrent_batches=batches,
        journal=journal,
    )


def _batch_row(what: str, address: str, *, size: int) -> Row:
    url = f"{address}/batch"
    settings = Settings(interval=0, settle=0, upstream=BATCH + url, batch_size_ids=size)
    with _service(settings, ITEMS_IN_BATCHES) as serve, urllib3.PoolManager(maxsize=1) as pool:
        taken = take_turns(serve, partial(_loop_batches, pool, url, size), rounds=ROUNDS)
    ours, plain = (seconds / ITEMS_IN_BATCHES for seconds in taken)
    return Row(what, ours, "urllib3 in a loop", plain, limit=AIM)


@contextmanager
def _service(settings: Settings, items: int = ITEMS) -> Iterator[Callable[[], None]]:
    parts = build(settings)
    parts.worker.start()

    def serve() -> None:
        accepted = parts.service.submissions.accept(Ids(range(1, items + 1)), Priority.MEDIUM)
        while True:
            snapshot = parts.service.queries.status(accepted.ingestion_id, 0, 1)
            if snapshot.finished_at is not None:
                break
            time.sleep(0.01)
        if snapshot.counts.succeeded != items:
            raise RuntimeError(snapshot.counts)

    try:
        serve()
        yield serve
    finally:
        parts.close(5)


def _loop(pool: urllib3.PoolManager, address: str, threads: int) -> None:
    ids = itertools.count(1)

    def run() -> None:
        while (number := next(ids)) <= ITEMS:
            answer = pool.request("GET", f"{address}/items/{number}", retries=False)
            if not orjson.loads(answer.data):
                raise RuntimeError(answer.data)

    with _running(run, threads):
        pass


def _loop_in_step(
    pool: urllib3.PoolManager, address: str, threads: int, bare: apsw.Connection
) -> None:
    """Ask for so many at a time, each time after a commit of a single row."""
    asked: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    answered: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run() -> None:
        while (number := asked.get()) is not None:
            answer = pool.request("GET", f"{address}/items/{number}", retries=False)
            answered.put(orjson.loads(answer.data))

    with _running(run, threads):
        for first in range(1, ITEMS + 1, threads):
            bare.execute("INSERT INTO starts VALUES (?)", (first,))
            for number in range(first, first + threads):
                asked.put(number)
            for _ in range(threads):
                answered.get()
        for _ in range(threads):
            asked.put(None)


@contextmanager
def _running(run: Callable[[], None], threads: int) -> Iterator[None]:
    """Have `run` called by so many threads; wait for them at the end."""
    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    yield
    for thread in running:
        thread.join()


def _loop_batches(pool: urllib3.PoolManager, url: str, size: int) -> None:
    for start in range(1, ITEMS_IN_BATCHES + 1, size):
        body = orjson.dumps({"ids": list(range(start, start + size))})
        headers = {"Content-Type": "application/json"}
        answer = pool.request("POST", url, body=body, headers=headers, retries=False)
        if len(orjson.loads(answer.data)["results"]) != size:
            raise RuntimeError(answer.data)


@contextmanager
def _demo() -> Iterator[str]:
    """Run the demo upstream in a process of its own; give its address."""
    command = [sys.executable, *_DEMO.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[2].rstrip(";")
        finally:
            process.terminate()
