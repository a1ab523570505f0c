"""Fixtures of the service's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.restarts import Restarts, restarting


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Restarts]:
    """Give a service that survives its own end."""
    with restarting(tmp_path / "journal.sqlite3") as restarts:
        yield restarts
