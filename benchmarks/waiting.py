"""What it costs to ask where one is, and to wait for a change."""

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from flask.testing import FlaskClient

from benchmarks._measure import Row, Table, idle_service, seconds, take_turns
from benchmarks._server import Server, request, serving

DEPTHS = (10, 1_000, 10_000, 100_000)
WAITERS = 200
POSTS = 300

_BODY = json.dumps({"ids": list(range(1, 10)), "priority": "MEDIUM"}).encode()


def tables() -> Iterator[Table]:
    """Measure everything about waiting."""
    yield _asking()
    yield _waiting()


def _asking() -> Table:
    """Ask for the last one in line, and for the whole queue, with more and more ahead."""
    taken = {}
    with idle_service() as client:
        queued: list[str] = []
        for depth in DEPTHS:
            queued += [_post(client) for _ in range(depth - len(queued))]
            taken[depth] = take_turns(
                partial(client.get, f"/status/{queued[-1]}"),
                partial(client.get, "/queue"),
                rounds=15,
            )
    few = taken[DEPTHS[0]]
    rows = [
        Row(f"{what}, {depth:,} queued", taken[depth][which], f"{DEPTHS[0]} queued", few[which])
        for which, what in enumerate(("status of the last", "GET /queue"))
        for depth in DEPTHS[1:]
    ]
    return Table("Asking in a long line", seconds, rows)


def _waiting() -> Table:
    """Post while nobody waits, and while many clients wait for a change that does not come."""
    settings = {"journal": "memory", "interval": 3_600, "settle": 3_600, "log_level": "WARNING"}
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), settings) as server:
        alone = _post_latencies(server)
        over = threading.Event()
        clients = [
            threading.Thread(target=_wait_again_and_again, args=(server, over), daemon=True)
            for _ in range(WAITERS)
        ]
        for client in clients:
            client.start()
        time.sleep(1)
        beside = _post_latencies(server)
        over.set()
    rows = [
        Row(f"POST, {what}, {WAITERS} clients with ?wait", pick(beside), "none", pick(alone))
        for what, pick in (("median", statistics.median), ("99 of 100", _p99))
    ]
    return Table("Posting beside clients that wait", seconds, rows)


def _post(client: FlaskClient) -> str:
    answer = client.post("/ingest", data=_BODY, content_type="application/json")
    return str(answer.get_json()["ingestion_id"])


def _post_latencies(server: Server) -> list[float]:
    connection, taken = server.connect(), []
    for _ in range(POSTS):
        began = time.perf_counter()
        status, _ = request(connection, "POST", "/ingest", _BODY)
        taken.append(time.perf_counter() - began)
        if status != 200:
            raise RuntimeError(f"POST was answered {status}")
    connection.close()
    return taken


def _wait_again_and_again(server: Server, over: threading.Event) -> None:
    """Do as a client should: wait, and where the answer comes at once, obey `Retry-After`."""
    connection = server.connect()
    _, text = request(connection, "POST", "/ingest", _BODY)
    path = f"/status/{json.loads(text)['ingestion_id']}?wait=20"
    while not over.is_set():
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        over.wait(float(answer.headers["Retry-After"]))


def _p99(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=100)[-1]
