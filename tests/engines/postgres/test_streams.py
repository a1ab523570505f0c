"""Whoever fetches a lot and does not read keeps no connection from those who submit."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ingest_service.app import build, build_worker
from ingest_service.domain.items import Ids
from ingest_service.domain.model import Priority
from ingest_service.engines import Slot
from ingest_service.engines.postgres.engine import REPLICA_CONNECTIONS
from ingest_service.settings import Settings
from tests.crash.raw import Raw, head
from tests.crash.server import Server
from tests.postgres import wipe

#: More than a socket takes that nobody reads from.
ITEMS = 40_000


@pytest.fixture
def done(database: str) -> str:
    """Give the id of something large that is finished."""
    wipe(database)
    settings = Settings(
        journal=database, interval=0, settle=0, batch_size_ids=10_000, simulated_latency=0
    )
    parts, worker = build(settings), build_worker(settings, lambda _, start: None)
    submitted = parts.service.submissions.accept(Ids(range(1, ITEMS + 1)), Priority.LOW)
    while isinstance(slot := worker.dispatch.take(), Slot):
        worker.carrier.carry(slot.number)
    assert parts.service.queries.status(submitted.ingestion_id).finished_at is not None
    parts.close(0)
    worker.database.close()
    return submitted.ingestion_id


@pytest.fixture
def server(database: str, tmp_path: Path) -> Iterator[Server]:
    """Give a replica."""
    one = Server(tmp_path, tmp_path / "log")
    one.environment["INGEST_JOURNAL"] = database
    one.start()
    yield one
    assert one.stop() == 0


def test_streams_that_nobody_reads(server: Server, done: str) -> None:
    with ExitStack() as crowd:
        for _ in range(2 * REPLICA_CONNECTIONS):
            client = crowd.enter_context(Raw(server.port, receive_buffer=4096))
            client.send(head("GET", f"/status/{done}/results?format=csv"))
        body = {"ids": [1], "priority": "HIGH"}
        for headers in ({}, {"Idempotency-Key": "one"}):
            assert server.request("POST", "/ingest", body, headers).status == 200
