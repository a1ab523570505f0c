"""Fixtures of this engine's tests: workers in frozen time whose parts can be used by hand."""

from collections.abc import Iterator

import pytest

from ingest_service.settings import Settings
from tests.postgres import StepInTurn, serving_on_postgres
from tests.support import Api


@pytest.fixture
def settings() -> Settings:
    """Return settings under which nothing is put in order first."""
    return Settings(settle=0)


@pytest.fixture
def pg(database: str, settings: Settings) -> Iterator[Api]:
    """Give a service with two workers that rest until somebody steps them."""
    with serving_on_postgres(database, settings, 2) as served:
        yield served


@pytest.fixture
def workers(pg: Api) -> StepInTurn:
    """Give the workers."""
    assert isinstance(pg.timeline, StepInTurn)
    return pg.timeline
