"""Fixtures of the tests that look into the engine."""

from collections.abc import Iterator

import pytest
from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory

from tests.support import EPOCH


@pytest.fixture
def frozen() -> Iterator[FrozenDateTimeFactory]:
    """Give time that stands still."""
    with freeze_time(EPOCH) as factory:
        assert isinstance(factory, FrozenDateTimeFactory)
        yield factory
