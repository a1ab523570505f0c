"""Fixtures: every test of behaviour runs stepped on its own thread and with the real one."""

from collections.abc import Iterator

import pytest
from freezegun import configure, freeze_time
from freezegun.api import FrozenDateTimeFactory

from ingest_service.app import build, create_app
from ingest_service.settings import Settings
from tests.support import Api, FrozenClock, LockstepClock, RecordingUpstream, Stepper, Timeline

# Without this, --durations subtracts real time from frozen time.
configure(extend_ignore_list=["_pytest.timing"])

EPOCH = "2026-01-01T12:00:00Z"


@pytest.fixture
def settings() -> Settings:
    """Return the defaults; a module or a class overrides this fixture to change them."""
    return Settings()


@pytest.fixture
def frozen() -> Iterator[FrozenDateTimeFactory]:
    """Freeze time at EPOCH."""
    with freeze_time(EPOCH) as factory:
        assert isinstance(factory, FrozenDateTimeFactory)
        yield factory


@pytest.fixture(params=["stepped", "threaded"])
def api(
    request: pytest.FixtureRequest, settings: Settings, frozen: FrozenDateTimeFactory
) -> Iterator[Api]:
    """Give a client in frozen time: stepped on the test's thread, then with the worker's own."""
    stepped = request.param == "stepped"
    clock = FrozenClock() if stepped else LockstepClock(frozen)
    upstream = RecordingUpstream(clock)
    parts = build(settings, clock=clock, upstream=upstream)
    timeline: Timeline
    if isinstance(clock, LockstepClock):
        timeline = clock
        parts.worker.start()
    else:
        timeline = Stepper(frozen, clock, parts.worker)
    client = create_app(settings, parts).test_client()
    yield Api(client, timeline, upstream, began=clock.monotonic())
    parts.worker.stop(timeout=0)
    if isinstance(clock, LockstepClock):
        clock.release()
    assert parts.worker.stop(), "the worker's thread outlived its test"
