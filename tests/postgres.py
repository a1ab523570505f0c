"""The service on PostgreSQL in frozen time, with workers that step in turn."""

import itertools
import math
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import psycopg
from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory
from psycopg import conninfo as conninfos

from ingest_service.app import build, build_worker, create_app
from ingest_service.engines import Slot
from ingest_service.engines.postgres.carrier import BatchUnderWay
from ingest_service.engines.postgres.engine import WorkerParts
from ingest_service.engines.postgres.migrations import migrate
from ingest_service.settings import Settings
from tests.cluster import private_cluster
from tests.support import EPOCH, Api, FrozenClock, RecordingUpstream, jump_to

#: Everything goes but the single rows, which become as they were made.
_WIPE = """
SET session_replication_role = replica;
DELETE FROM again; DELETE FROM start; DELETE FROM outcome; DELETE FROM batch;
DELETE FROM content; DELETE FROM ingestion; DELETE FROM idempotency_key; DELETE FROM mark;
DELETE FROM worker; DELETE FROM owned; DELETE FROM pace; DELETE FROM depth;
DELETE FROM counted; DELETE FROM rollup; DELETE FROM depth_at;
INSERT INTO pace DEFAULT VALUES; INSERT INTO depth DEFAULT VALUES;
INSERT INTO rollup VALUES (0, '{}');
ALTER SEQUENCE ingestion_sequence_seq RESTART; ALTER SEQUENCE start_start_seq RESTART;
SET session_replication_role = DEFAULT;
"""


@contextmanager
def fresh_database() -> Iterator[str]:
    """Give the address of a database with our schema; on a server of our own if there is none."""
    if server := os.environ.get("INGEST_TEST_POSTGRES"):
        with _database_on(server) as address:
            yield address
    else:
        with private_cluster() as cluster, _database_on(cluster.address) as address:
            yield address


@contextmanager
def _database_on(server: str) -> Iterator[str]:
    with empty_database(server) as address:
        migrate(address)
        yield address


@contextmanager
def empty_database(server: str) -> Iterator[str]:
    """Give the address of a database without anything, on the server of another one."""
    name = f"ingest_test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        values = conninfos.conninfo_to_dict(server) | {"dbname": name}
        host, port = values.get("host", ""), values.get("port", "")
        address = f"postgresql://{values['user']}@/{name}?host={host}"
        address += f"&port={port}" if port else ""
        yield address
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def wipe(address: str) -> None:
    """Make a database as it was after its migration."""
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(_WIPE)


class StepInTurn:
    """A timeline of several workers: each takes a turn, and carries what another one has taken."""

    def __init__(
        self, frozen: FrozenDateTimeFactory, clock: FrozenClock, workers: Sequence[WorkerParts]
    ) -> None:
        self._frozen = frozen
        self._clock = clock
        self.workers = workers
        self._turns = itertools.cycle(workers)
        #: What was sent and is not settled.
        self.under_way: list[BatchUnderWay] = []

    def advance(self, seconds: float) -> None:
        end = self._clock.monotonic() + seconds
        while (due := self.step()) <= end:
            jump_to(self._frozen, due)
        jump_to(self._frozen, end)
        self.rest()

    def pass_by(self, seconds: float) -> None:
        """Let time pass in which no worker does anything."""
        jump_to(self._frozen, self._clock.monotonic() + seconds)

    def step(self) -> float:
        due = math.inf
        for batch in list(self.under_way):
            look_at = batch.turn()
            if look_at == -math.inf:
                self.under_way.remove(batch)
            due = min(due, look_at) if look_at > -math.inf else due
        taken = next(self._turns).dispatch.take()
        if not isinstance(taken, Slot):
            return min(due, taken)
        batch_under_way = next(self._turns).carrier.begin(taken)
        if batch_under_way is not None:
            self.under_way.append(batch_under_way)
        return self._clock.monotonic()

    def rest(self) -> None:
        """Do what workers do besides."""
        for worker in self.workers:
            worker.upkeep.beat()
        self.workers[0].upkeep.tidy()


@contextmanager
def serving_on_postgres(
    address: str, settings: Settings, workers: int, *, at: str = EPOCH, anew: bool = True
) -> Iterator[Api]:
    """Give a client in frozen time; `workers` step in turn."""
    if anew:
        wipe(address)
    settings = replace(settings, journal=address)
    with freeze_time(at) as frozen:
        assert isinstance(frozen, FrozenDateTimeFactory)
        clock = FrozenClock()
        upstream = RecordingUpstream(clock)
        parts = build(settings, clock=clock, upstream=upstream)
        at_work = [
            build_worker(settings, lambda connection, start: None, clock=clock, upstream=upstream)
            for _ in range(workers)
        ]
        timeline = StepInTurn(frozen, clock, at_work)
        timeline.rest()
        client = create_app(settings, parts).test_client()
        yield Api(client, timeline, upstream, clock.monotonic(), parts)
        parts.close(0)
        for worker in at_work:
            worker.database.close()
