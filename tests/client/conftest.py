"""A service and its client."""

from collections.abc import Iterator

import pytest

from ingest_service.client import IngestClient
from tests.client.support import listening


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
