"""Processes die, sleep and are cut off, the database crashes: nothing is lost, nobody is early."""

import math
import os
import random
import time
from pathlib import Path

from tests.cluster import Cluster
from tests.scale.checks import (
    assert_clean,
    inversions,
    left_over,
    order_of,
    short_gaps,
    unfinished,
)
from tests.scale.fleet import Clients, Fleet
from tests.scale.proxy import Proxy
from tests.scale.upstream import read_arrivals

INTERVAL = 0.2
#: Seconds of chaos; `SECONDS` makes it longer.
SECONDS = float(os.environ.get("SECONDS", "80"))
#: In proportion; it goes on until there were so many.
KILLS = math.ceil(30 * max(1.0, SECONDS / 80))


class Chaos:
    """What can happen, by chance, one thing after the other."""

    def __init__(self, fleet: Fleet, cluster: Cluster, proxy: Proxy) -> None:
        self._fleet = fleet
        self._cluster = cluster
        self._proxy = proxy
        self._chance = random.Random(11)  # noqa: S311
        self.kills = 0

    def reign(self, seconds: float) -> None:
        """Let things happen for a while; the database has its own accidents on the way."""
        began = time.monotonic()
        accidents = [
            (0.25, self._crash_database),
            (0.45, self._go_dark),
            (0.6, self._go_slow),
            (0.8, self._crash_database),
        ]
        while (passed := time.monotonic() - began) < seconds or self.kills < KILLS:
            if accidents and passed > accidents[0][0] * seconds:
                accidents.pop(0)[1]()
            self._kill_or_freeze()
            deadline = time.monotonic() + self._chance.uniform(1.5, 3.5)
            while time.monotonic() < deadline:
                self._fleet.tend()
                time.sleep(0.1)

    def _kill_or_freeze(self) -> None:
        members = [*self._fleet.workers, *self._fleet.workers, *self._fleet.replicas]
        victim = self._chance.choice(members)
        if self._chance.random() < 0.15:
            victim.freeze(self._chance.uniform(1, 8))
        else:
            victim.kill()
            self.kills += 1

    def _crash_database(self) -> None:
        self._cluster.restart()

    def _go_dark(self) -> None:
        self._proxy.dark = True
        self._tend_for(4)
        self._proxy.dark = False

    def _go_slow(self) -> None:
        self._proxy.delay = 0.05
        self._tend_for(6)
        self._proxy.delay = 0.0

    def _tend_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._fleet.tend()
            time.sleep(0.1)


def test_whatever_dies_nothing_is_lost_and_nobody_is_early(
    fleet: Fleet, cluster: Cluster, proxy: Proxy, record: Path
) -> None:
    fleet.settings = {
        "interval": str(INTERVAL),
        "max_concurrent_batches": "3",
        "upstream_timeout": "5",
    }
    for _ in range(2):
        fleet.add_replica()
    for _ in range(3):
        fleet.add_worker()
    fleet.await_replicas()
    fleet.await_workers()
    clients = Clients(fleet, seed=3)
    clients.start(3, lambda chance: chance.uniform(0.5, 4.0))
    chaos = Chaos(fleet, cluster, proxy)
    chaos.reign(SECONDS)
    fleet.tend()
    clients.stop()
    deadline = time.monotonic() + 90
    while unfinished(cluster.address):
        assert time.monotonic() < deadline, left_over(cluster.address)
        fleet.tend()
        time.sleep(0.3)
    time.sleep(8)

    arrivals = read_arrivals(record)
    assert chaos.kills >= KILLS
    assert short_gaps(arrivals, INTERVAL) == []
    assert inversions(arrivals, clients.answered, order_of(cluster.address), margin=1.5) == []
    assert {one for posted in clients.answered for one in posted.ids} <= {
        one for arrival in arrivals for one in arrival.ids
    }
    assert_clean(cluster.address)
