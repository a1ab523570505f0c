"""A database that is careful, an upstream that remembers, and processes between them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_service.engines.postgres.migrations import migrate
from tests.cluster import Cluster, private_cluster
from tests.crash.server import ROOT, free_port
from tests.scale.fleet import Fleet
from tests.scale.proxy import Proxy

#: Seconds that a batch takes at the upstream.
LATENCY = 0.02


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Give a server whose commits are durable."""
    with private_cluster(("max_connections=200",), port=free_port()) as server:
        migrate(server.address)
        yield server


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[Proxy]:
    """Give what is between the service and the server."""
    assert cluster.port is not None
    with Proxy(cluster.port) as between:
        yield between


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Give the file that the upstream writes to."""
    return tmp_path / "arrivals"


@pytest.fixture
def fleet(cluster: Cluster, proxy: Proxy, record: Path, tmp_path: Path) -> Iterator[Fleet]:
    """Give a fleet without members, in front of an upstream."""
    port = free_port()
    record.touch()
    command = [sys.executable, "-m", "tests.scale.upstream", str(port), str(record), str(LATENCY)]
    upstream = subprocess.Popen(command, cwd=ROOT)  # noqa: S603
    journal = f"postgresql://ingest@127.0.0.1:{proxy.port}/postgres"
    members = Fleet(journal, port, tmp_path)
    yield members
    members.stop()
    upstream.kill()
    upstream.wait(10)
