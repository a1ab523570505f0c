"""Whoever stops something has its word when it is answered: nothing of it is started after that."""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from ingest_service.app import Parts, build, build_worker
from ingest_service.domain.items import Ids
from ingest_service.domain.model import Batch, Outcome, Priority
from ingest_service.engines import Slot
from ingest_service.engines.postgres.engine import WorkerParts
from ingest_service.settings import Settings
from ingest_service.upstreams.protocol import FinishedCall
from tests.cluster import Cluster

#: Enough to see a fault that is there; `RACES` makes it more.
RACES = int(os.environ.get("RACES", "400"))


class Upstream:
    """Notes when each batch was started."""

    latency = 0.0

    def __init__(self) -> None:
        self.started: dict[str, float] = {}

    def trouble(self) -> str | None:
        return None

    def start(self, batch: Batch, on_news: Callable[[], None]) -> FinishedCall:
        del on_news
        self.started[batch.ingestion_id] = time.monotonic()
        return FinishedCall([Outcome(succeeded=True)] * len(batch.items))


@dataclass
class Race:
    """A service, and a worker that takes turns in a thread of its own."""

    parts: Parts
    worker: WorkerParts
    upstream: Upstream
    stopped: threading.Event

    def run(self) -> None:
        """Open slots and carry their batches until told to stop."""
        while not self.stopped.is_set():
            taken = self.worker.dispatch.take()
            if isinstance(taken, Slot):
                self.worker.carrier.carry(taken.number)
            else:
                time.sleep(0.0005)


@pytest.fixture
def race(cluster: Cluster) -> Iterator[Race]:
    """Give a service as fast as it gets."""
    settings = Settings(journal=cluster.address, interval=0, settle=0)
    upstream = Upstream()
    worker = build_worker(settings, lambda connection, start: None, upstream=upstream)
    one = Race(build(settings), worker, upstream, threading.Event())
    thread = threading.Thread(target=one.run, daemon=True)
    thread.start()
    yield one
    one.stopped.set()
    thread.join(20)
    one.parts.close(0)
    worker.database.close()


def test_nothing_is_started_after_the_answer_to_its_cancellation(race: Race) -> None:
    service, chance = race.parts.service, random.Random(5)  # noqa: S311
    late, started = [], 0
    for _ in range(RACES):
        ingestion_id = service.submissions.accept(Ids([1]), Priority.LOW).ingestion_id
        time.sleep(chance.uniform(0, 0.012))
        try:
            service.operator.cancel(ingestion_id)
        except Exception:  # noqa: BLE001 - it was finished
            started += 1
            continue
        answered = time.monotonic()
        time.sleep(0.001)
        began = race.upstream.started.get(ingestion_id)
        started += began is not None
        if began is not None and began > answered:
            late.append(began - answered)
    time.sleep(0.2)
    assert late == []
    assert 0 < started < RACES, "all races had the same winner"


def test_nothing_is_started_after_the_answer_to_a_pause(race: Race) -> None:
    service, chance = race.parts.service, random.Random(6)  # noqa: S311
    late = []
    for _ in range(RACES // 4):
        ids = [service.submissions.accept(Ids([1]), Priority.LOW).ingestion_id for _ in range(3)]
        time.sleep(chance.uniform(0, 0.02))
        service.operator.pause("race")
        answered = time.monotonic()
        time.sleep(0.004)
        late += [one for one in ids if race.upstream.started.get(one, 0.0) > answered]
        service.operator.resume()
    assert late == []
