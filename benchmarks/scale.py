"""A million ids: what it costs to accept them, to keep them and to ask about them."""

import gc
import json
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from flask.testing import FlaskClient

from benchmarks._measure import Row, Table, busy_service, idle_service, seconds, size, take_turns

MILLION = 1_000_000
MAX_ID = 1_000_000_007
#: More batches than this are never listed in one answer.
FULL_PAGE = 10_000 * 3

_PROCESS = Path("/proc/self/status")


def tables() -> Iterator[Table]:
    """Measure everything about size."""
    yield _accepting()
    yield _keeping()
    if _PROCESS.exists():
        yield _growing()
    yield _asking()


def _accepting() -> Table:
    ids, mappings = _ids(MILLION), _mappings(100_000)
    with idle_service() as client:
        post_ids, parse_ids = take_turns(
            partial(_post, client, ids), partial(json.loads, ids), rounds=7
        )
        post_mappings, parse_mappings = take_turns(
            partial(_post, client, mappings), partial(json.loads, mappings), rounds=5
        )
    parsing = "json.loads of the same body"
    rows = [
        Row("POST of 1,000,000 ids", post_ids, parsing, parse_ids, limit=3),
        Row("POST of 100,000 mappings", post_mappings, parsing, parse_mappings, limit=6),
    ]
    return Table("Accepting", seconds, rows)


def _keeping() -> Table:
    """Return what Python holds of ids that wait; 16 bytes each are the most aimed at."""
    body = _ids(MILLION)
    with idle_service() as client:
        _post(client, _ids(3))
        gc.collect()
        tracemalloc.start()
        _post(client, body)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    row = Row("one of 1,000,000 ids that wait", held / MILLION, "a 32-bit integer", 4, limit=4)
    return Table("Keeping, as Python counts it", size, [row])


def _growing() -> Table:
    """Measure whole processes, each a fresh one: what others left free would be used again."""
    ids, mappings = _ids(MILLION), _mappings(100_000)
    text = json.dumps([[True, {"id": 500_000_000, "data": "processed"}, None]])
    rows = [
        Row("one of 9,000,000 ids that wait", _fresh(_waiting, ids), "a 32-bit integer", 4, 4),
        Row("one of 90,000 results", _fresh(_settled), "its JSON text", len(text), 4),
        Row(
            "at most, while 100,000 mappings are accepted",
            _fresh(_peak, mappings),
            "the body",
            len(mappings),
            16,
        ),
    ]
    return Table("Keeping, as the machine counts it", size, rows)


def _fresh(measure: Callable[..., float], *args: bytes) -> float:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, *args).result()


def _waiting(body: bytes) -> float:
    """Return the bytes an id, what reading the bodies left behind included."""
    requests = 9
    with idle_service() as client:
        _post(client, _ids(3))
        before = _memory("VmRSS")
        for _ in range(requests):
            _post(client, body)
        return (_memory("VmRSS") - before) / (requests * MILLION)


def _settled() -> float:
    """Return the bytes that stay of an id when it is done."""
    count = 90_000
    with busy_service() as client:
        _finish(client, _post(client, _ids(3)))
        before = _memory("VmRSS")
        _finish(client, _post(client, _ids(count)))
        return (_memory("VmRSS") - before) / count


def _peak(body: bytes) -> float:
    """Return by how much the process grows at most."""
    with idle_service() as client:
        _post(client, _mappings(3))
        before = _memory("VmRSS")
        _post(client, body)
        return _memory("VmHWM") - before


def _memory(name: str) -> int:
    gc.collect()
    (line,) = (each for each in _PROCESS.read_text().splitlines() if each.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _asking() -> Table:
    """Beyond a full page of 10,000 batches an answer must cost the same, however many there are."""
    with idle_service() as client:
        few, full, many = (_post(client, _ids(count)) for count in (30, FULL_PAGE, MILLION))
        ask = partial(_asker, client)
        last = "?offset=333234&limit=100"
        whole = take_turns(ask(few), ask(full), ask(many), rounds=31)
        paged = take_turns(
            ask(few, "?limit=100"),
            ask(full, "?limit=100"),
            ask(many, "?limit=100"),
            ask(many, last),
            rounds=501,
        )
    rows = [
        Row("30,000 ids, default page", whole[1], "30 ids", whole[0]),
        Row("1,000,000 ids, default page", whole[2], "30,000 ids", whole[1], limit=1.25),
        Row("30,000 ids, limit=100", paged[1], "30 ids", paged[0]),
        Row("1,000,000 ids, limit=100", paged[2], "30,000 ids", paged[1], limit=1.25),
        Row("1,000,000 ids, limit=100, last page", paged[3], "first page", paged[2], limit=1.25),
    ]
    return Table("Asking for the status", seconds, rows)


def _asker(client: FlaskClient, status: str, query: str = "") -> Callable[[], object]:
    return partial(client.get, status + query)


def _finish(client: FlaskClient, status: str) -> None:
    while client.get(f"{status}?limit=1").get_json()["finished_at"] is None:
        time.sleep(0.01)


def _ids(count: int) -> bytes:
    ids = random.Random(count).choices(range(1, MAX_ID + 1), k=count)
    return json.dumps({"ids": ids, "priority": "MEDIUM"}).encode()


def _mappings(count: int) -> bytes:
    mappings = [{"id": f"map_{n}", "source": "s", "target": "t"} for n in range(count)]
    return json.dumps({"mappings": mappings, "priority": "MEDIUM"}).encode()


def _post(client: FlaskClient, body: bytes) -> str:
    """Return where the status of the new ingestion is."""
    answer = client.post("/ingest", data=body, content_type="application/json")
    if answer.status_code != 200:
        raise RuntimeError(answer.text)
    return answer.headers["Location"]
