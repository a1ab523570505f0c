"""A million ids, a long line: what it costs to accept, to keep and to ask about them."""

import gc
import json
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path

from flask.testing import FlaskClient

from benchmarks._measure import Row, Table, busy_service, idle_service, seconds, size, take_turns
from ingest_service.domain.items import Ids
from ingest_service.domain.model import Priority
from ingest_service.domain.policy import Policy
from ingest_service.front import heap

MILLION = 1_000_000
MAX_ID = 1_000_000_007
#: More batches than this are never listed in one answer.
FULL_PAGE = 10_000 * 3
#: Ingestions of three batches each, of all classes.
SHORT_LINE, LONG_LINE, LINE = 1_000, 100_000, 10_000

_PROCESS = Path("/proc/self/status")


def tables() -> Iterator[Table]:
    """Measure everything about size."""
    yield _accepting()
    yield _keeping()
    if _PROCESS.exists():
        yield _growing()
    yield _asking()
    yield _looking()
    yield _predicting()


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
        Row("POST of 100,000 mappings", post_mappings, parsing, parse_mappings, limit=4),
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
        # With one heap, as the service has.
        process.submit(heap.share_one_heap).result()
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


def _looking() -> Table:
    """Ask for the whole queue, short and long."""
    with ExitStack() as stack:
        short, long = (stack.enter_context(idle_service()) for _ in range(2))
        _line_up(short, SHORT_LINE)
        _line_up(long, LONG_LINE)
        few, many = take_turns(
            partial(short.get, "/queue"), partial(long.get, "/queue"), rounds=101
        )
    row = Row(f"GET /queue, {LONG_LINE:,} waiting", many, f"{SHORT_LINE:,} waiting", few, limit=5)
    return Table("Looking at a long line", seconds, [row])


def _predicting() -> Table:
    """Ask where one is under each policy, with and without a change of the line before."""
    policies = Policy.STRICT, Policy.AGED, Policy.WEIGHTED
    with ExitStack() as stack:
        clients = [stack.enter_context(idle_service(policy)) for policy in policies]
        # The last one of each class, so that the whole line is ahead of one of them.
        asked = [_line_up(client, LINE)[-len(Priority) :] for client in clients]
        asks = [partial(_ask_each, *pair) for pair in zip(clients, asked, strict=True)]
        unchanged = take_turns(*asks, rounds=101)
        changed = _after_changes(clients, asks, rounds=15)
    rows = [
        Row(f"{policy}{when}", taken[at], f"strict{when}", taken[0], limit)
        for when, taken, limit in (
            ("", unchanged, 3),
            (", the first after a change", changed, None),
        )
        for at, policy in enumerate(policies[1:], 1)
    ]
    return Table(f"Three statuses, one a class, {LINE:,} waiting", seconds, rows)


def _ask_each(client: FlaskClient, paths: Sequence[str]) -> None:
    for path in paths:
        client.get(path)


def _after_changes(
    clients: Sequence[FlaskClient], asks: Sequence[Callable[[], None]], rounds: int
) -> list[float]:
    """Return the medians of `asks`, each after somebody has joined the line."""
    taken: list[list[float]] = [[] for _ in asks]
    for _ in range(rounds):
        for client, ask, durations in zip(clients, asks, taken, strict=True):
            _line_up(client, 1)
            durations += take_turns(ask, rounds=1)
    return [statistics.median(durations) for durations in taken]


def _line_up(client: FlaskClient, count: int) -> list[str]:
    """Let so many ingestions wait; return where their statuses are."""
    submissions = client.application.extensions["ingest_parts"].service.submissions
    return [
        f"/status/{submissions.accept(Ids(range(1, 10)), priority).ingestion_id}"
        for priority in islice(cycle(Priority), count)
    ]


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
