"""Fixtures of these checks."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser import site


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Give the one browser of all checks."""
    with site.browser() as started:
        yield started
