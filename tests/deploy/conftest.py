"""Two replicas and a worker on one database, behind a proxy."""

from collections.abc import Iterator

import pytest

from ingest_service.engines.postgres.migrations import migrate
from tests.cluster import CARELESS, private_cluster
from tests.crash.server import free_port
from tests.deploy.proxies import NAME, Proxy
from tests.scale.fleet import Fleet


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Give a fleet whose pace is no limit."""
    with private_cluster(CARELESS, port=free_port()) as cluster:
        migrate(cluster.address)
        settings = {
            "upstream": "simulated",
            "simulated_latency": "0",
            "interval": "0",
            "batch_size_ids": "2000",
            "batch_size_mappings": "2000",
            "trusted_proxies": "1",
            "allowed_hosts": NAME,
        }
        members = Fleet(cluster.address, 0, tmp_path_factory.mktemp("fleet"), settings=settings)
        try:
            members.add_worker()
            members.add_replica()
            members.add_replica()
            members.await_replicas()
            members.await_workers()
            yield members
        finally:
            members.stop()


@pytest.fixture(scope="module")
def proxy(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Give a proxy in front of the replicas."""
    between = Proxy(tmp_path_factory.mktemp("proxy"))
    try:
        between.start(fleet.ports)
        yield between
    finally:
        between.stop()
