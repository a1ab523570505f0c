"""Fixtures of the engine's tests."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory

from ingest_service.domain.retry_policy import RetryPolicy
from ingest_service.settings import Settings
from tests.restarts import Restarts, restarting
from tests.support import EPOCH, Api, serving


@pytest.fixture
def frozen() -> Iterator[FrozenDateTimeFactory]:
    """Give time that stands still."""
    with freeze_time(EPOCH) as factory:
        assert isinstance(factory, FrozenDateTimeFactory)
        yield factory


@pytest.fixture
def still(settings: Settings) -> Iterator[Api]:
    """Give a service whose worker rests until time is advanced."""
    with serving(settings, threaded=False) as served:
        yield served


@pytest.fixture
def lives(tmp_path: Path, settings: Settings) -> Iterator[Restarts]:
    """Give a service that survives its own end."""
    with restarting(tmp_path / "journal.sqlite3", settings) as restarts:
        yield restarts


@pytest.fixture(autouse=True)
def _longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every wait for another attempt be the longest that chance allows."""
    monkeypatch.setattr("ingest_service.app.RetryPolicy", partial(RetryPolicy, chance=lambda: 1.0))
