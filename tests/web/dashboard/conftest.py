"""Fixtures of these tests."""

from collections.abc import Iterator

import pytest

from ingest_service.settings import Settings
from tests.support import Api, serving


@pytest.fixture
def alive(settings: Settings) -> Iterator[Api]:
    """Give a service whose worker has its thread: without it no page says that all is well."""
    with serving(settings, threaded=True) as served:
        yield served
