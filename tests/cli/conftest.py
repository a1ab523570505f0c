"""A service, and the command that asks it."""

from collections.abc import Iterator

import pytest

from ingest_service.client import IngestClient
from tests.cli.support import Run, run_at
from tests.client.support import listening


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the machine says about terminals and services out of the tests."""
    for name in (
        "INGEST_URL",
        "INGEST_KEY",
        "NO_COLOR",
        "FORCE_COLOR",
        "COLUMNS",
        "INGEST_JOURNAL",
        "PYTHONUNBUFFERED",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("ingest_service.cli.remote.asking.PATIENCE", 0.0)


@pytest.fixture
def url() -> Iterator[str]:
    """Give the address of a service that is as fast as it gets."""
    with listening() as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[IngestClient]:
    """Give a client of it."""
    with IngestClient(url) as client:
        yield client


@pytest.fixture
def run(url: str) -> Run:
    """Give what runs the command against it."""
    return run_at(url)
