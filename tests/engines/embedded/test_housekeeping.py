"""What is too old is forgotten, however busy the worker is."""

import math
from datetime import timedelta

import pytest
from freezegun.api import FrozenDateTimeFactory

from ingest_service.app import Parts, build
from ingest_service.domain.items import Ids
from ingest_service.domain.model import Priority
from ingest_service.settings import Settings
from tests.support import FrozenClock, RecordingUpstream


@pytest.fixture
def parts(frozen: FrozenDateTimeFactory) -> Parts:
    """Return a service that is stepped, with one ingestion finished."""
    clock = FrozenClock()
    settings = Settings(settle=0, retention=60)
    parts = build(settings, clock=clock, upstream=RecordingUpstream(clock, latency=0))
    parts.service.submissions.accept(Ids([1]), Priority.LOW)
    for _ in range(3):
        parts.worker.step()
    return parts


def test_a_worker_that_turns_without_a_pause_forgets_all_the_same(
    parts: Parts, frozen: FrozenDateTimeFactory
) -> None:
    """Every turn looked a quarter of a second ahead, and the next one came before that."""
    assert parts.journal.oldest_finished() is not None

    for _ in range(700):
        frozen.tick(timedelta(seconds=0.1))
        parts.worker.step()

    assert parts.journal.oldest_finished() is None


def test_nothing_is_due_once_everything_was_forgotten(
    parts: Parts, frozen: FrozenDateTimeFactory
) -> None:
    """An idle worker sleeps until something happens."""
    for _ in range(3):
        frozen.tick(timedelta(seconds=70))
        due = parts.worker.step()

    assert due == math.inf
