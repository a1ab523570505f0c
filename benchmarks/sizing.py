"""How much memory and disk work takes, while it waits and once it is done: for sizing a machine.

Linux only: it looks at the process that serves through /proc.
"""

import json
import random
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks._measure import Row, Table, size
from benchmarks._server import request, serving

MILLION = 1_000_000
#: Ingestions of a few ids each.
_SMALL = 20_000
MAX_ID = 1_000_000_007
#: Nothing is sent meanwhile.
WAITING: dict[str, Any] = {"interval": 86_400, "settle": 86_400, "log_level": "WARNING"}
#: Everything is sent at once, to an API that takes no time.
BUSY: dict[str, Any] = {
    "interval": 0,
    "settle": 0,
    "simulated_latency": 0,
    "log_level": "WARNING",
}
#: The text of an id's result, which has no more than the simulated API answers.
_RESULT = len('{"id":500000000,"data":"processed"}')


class _Taken(NamedTuple):
    """What a server took, in bytes; what an empty one takes is left out."""

    memory: float
    disk: float


def tables() -> Iterator[Table]:
    """Measure servers of their own, each with one kind of work."""
    with TemporaryDirectory() as name, serving(Path(name), {"journal": "memory"}) as server:
        idle = Row("a server with nothing to do", _resident(server.pid), "100 MiB", 100 * 2**20)
    small, large = _taken(WAITING, _SMALL, 5), _taken(WAITING, 5, MILLION)
    done, in_hundreds = (
        _taken(BUSY | {"batch_size_ids": batch}, 300, 100, wait=True) for batch in (3, 100)
    )
    body = float(len(_ids(5)))
    yield Table(
        "Memory",
        size,
        [
            idle,
            Row("an ingestion of 5 ids that waits", small.memory / _SMALL, "its request", body),
            Row("an id that waits, of many", large.memory / (5 * MILLION), "32 bits", 4),
        ],
    )
    yield Table(
        "Journal",
        size,
        [
            Row("an ingestion of 5 ids that waits", small.disk / _SMALL, "its request", body),
            Row("an id that waits, of many", large.disk / (5 * MILLION), "32 bits", 4),
            Row("an id that is done, in batches of 3", done.disk / 30_000, "its text", _RESULT),
            Row("the same, batches of 100", in_hundreds.disk / 30_000, "its text", _RESULT),
        ],
    )


def _taken(settings: dict[str, Any], count: int, ids: int, *, wait: bool = False) -> _Taken:
    """Post `count` ingestions of `ids` ids; return what they take, once they are done if asked."""
    with TemporaryDirectory() as name:
        journal = Path(name) / "ingest.sqlite3"
        with serving(Path(name), settings | {"journal": journal}) as server:
            connection = server.connect()
            empty = _resident(server.pid)
            for _ in range(count):
                status, answer = request(connection, "POST", "/ingest", _ids(ids))
                if status != 200:
                    raise RuntimeError(answer)
            while wait and _unfinished(connection):
                time.sleep(0.2)
            memory = _resident(server.pid) - empty
            connection.close()
        # At its end everything is moved into the one file.
        return _Taken(memory, float(journal.stat().st_size))


def _unfinished(connection: HTTPConnection) -> int:
    waiting: int = json.loads(request(connection, "GET", "/health")[1])["active_requests"]
    return waiting


def _ids(count: int) -> bytes:
    ids = random.Random(count).choices(range(1, MAX_ID + 1), k=count)
    return json.dumps({"ids": ids, "priority": "MEDIUM"}).encode()


def _resident(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS:"))
    return float(line.split()[1]) * 1024
