"""Fixtures of these tests."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from ingest_service.domain.retry_policy import RetryPolicy
from ingest_service.settings import Settings
from tests.restarts import Lives, living
from tests.support import Api, serving


@pytest.fixture
def still(settings: Settings) -> Iterator[Api]:
    """Give a service whose worker rests until time is advanced."""
    with serving(settings, threaded=False) as served:
        yield served


@pytest.fixture
def client(still: Api) -> FlaskClient:
    """Give a client of `still`."""
    return still.client


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    """Give a service that survives its own end."""
    with living(tmp_path / "journal.sqlite3") as found:
        yield found


@pytest.fixture(autouse=True)
def _longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every wait for another attempt be the longest that chance allows."""
    monkeypatch.setattr("ingest_service.app.RetryPolicy", partial(RetryPolicy, chance=lambda: 1.0))
