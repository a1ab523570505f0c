"""Several workers, and the upstream sees one pace and one order."""

import random
import time
from pathlib import Path

from tests.cluster import Cluster
from tests.scale.checks import assert_clean, inversions, left_over, order_of, short_gaps, unfinished
from tests.scale.fleet import Clients, Fleet
from tests.scale.upstream import Arrival, read_arrivals

INTERVAL = 0.1
WORKERS = 4
SLOTS = 300


def _run(fleet: Fleet, cluster: Cluster, record: Path, slots: int, *entry: str) -> Clients:
    fleet.settings = {"interval": str(INTERVAL), "max_concurrent_batches": "4"}
    fleet.add_replica()
    for _ in range(WORKERS):
        fleet.add_worker(*entry)
    fleet.await_replicas()
    fleet.await_workers()
    clients = Clients(fleet, seed=7)
    clients.start(2, lambda chance: chance.uniform(0.0, 1.2))
    deadline = time.monotonic() + slots * INTERVAL * 10
    while len(record.read_text().splitlines()) < slots:
        assert time.monotonic() < deadline, "too few slots were used"
        time.sleep(0.2)
    clients.stop()
    return clients


def _drain(fleet: Fleet, cluster: Cluster) -> None:
    deadline = time.monotonic() + 90
    while unfinished(cluster.address):
        assert time.monotonic() < deadline, left_over(cluster.address)
        fleet.tend()
        time.sleep(0.3)
    time.sleep(1.5)


def test_four_workers_keep_one_pace_and_one_order(
    fleet: Fleet, cluster: Cluster, record: Path
) -> None:
    clients = _run(fleet, cluster, record, SLOTS, "tests.scale.slow")
    _drain(fleet, cluster)

    arrivals = read_arrivals(record)
    assert len(arrivals) >= SLOTS
    assert short_gaps(arrivals, INTERVAL) == []
    assert inversions(arrivals, clients.answered, order_of(cluster.address), margin=0.3) == []
    assert {one for arrival in arrivals for one in arrival.ids} == {
        one for posted in clients.answered for one in posted.ids
    }
    assert_clean(cluster.address)


def test_without_the_fence_the_pace_is_broken(fleet: Fleet, cluster: Cluster, record: Path) -> None:
    _run(fleet, cluster, record, 150, "tests.scale.unfenced")

    assert short_gaps(read_arrivals(record), INTERVAL)


def test_one_start_that_is_forged_is_noticed() -> None:
    chance = random.Random(1)  # noqa: S311
    arrivals = [Arrival(number * INTERVAL, "", (number,)) for number in range(100)]
    assert short_gaps(arrivals, INTERVAL) == []
    forged = chance.choice(arrivals)
    assert short_gaps([*arrivals, forged._replace(at=forged.at + 0.05)], INTERVAL)
