"""Fixtures: every test of behaviour runs stepped on its own thread and with the real one."""

from collections.abc import Iterator

import pytest
from freezegun import configure
from hypothesis import settings as hypothesis_settings

from ingest_service.settings import Settings
from tests.support import Api, serving

# Without this, --durations and hypothesis subtract real time from frozen time.
configure(extend_ignore_list=["_pytest.timing", "hypothesis"])

# The same examples every time: a gate that sometimes fails teaches nobody anything.
hypothesis_settings.register_profile("gate", deadline=None, derandomize=True)
hypothesis_settings.load_profile("gate")


@pytest.fixture
def settings() -> Settings:
    """Return the defaults; a module overrides this fixture to change them."""
    return Settings()


@pytest.fixture(params=["stepped", "threaded"])
def api(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Api]:
    """Give a client in frozen time: stepped on the test's thread, then with the worker's own."""
    with serving(settings, threaded=request.param == "threaded") as served:
        yield served
