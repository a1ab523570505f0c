"""What is too old is forgotten: in time, by itself, and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest
from freezegun import freeze_time

from ingest_service.engines.embedded.housekeeping import Housekeeping
from ingest_service.settings import Settings
from tests.meanwhile import Meanwhile
from tests.restarts import Restarts
from tests.service.operating import NO, replies, retry
from tests.support import Api, serving

HOUR = 3_600.0


@pytest.fixture
def settings() -> Settings:
    """Keep what is finished for an hour."""
    return Settings(retention=HOUR)


@pytest.fixture(params=["memory", "journal.sqlite3"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name each place where work can be kept."""
    return "memory" if request.param == "memory" else str(tmp_path / request.param)


@pytest.mark.parametrize("threaded", [False, True], ids=["stepped", "threaded"])
def test_an_idle_service_forgets_what_is_too_old(
    settings: Settings, where: str, threaded: bool
) -> None:
    """Nobody asks for anything, and nothing else is to be done."""
    with serving(replace(settings, journal=where), threaded=threaded) as api:
        api.ingest([1])
        api.advance(30)
        api.ingest([2])
        kept = []
        for seconds in (2, HOUR - 20, 30):
            api.advance(seconds)
            kept.append(api.parts.journal.oldest_finished() is not None)
        api.parts.journal.close()
    assert kept == [True, True, False]


def test_what_is_too_old_at_the_start_is_forgotten_then(lives: Restarts) -> None:
    """Nothing new has to be finished for that."""
    lives.api.ingest([1])
    lives.api.advance(10)
    lives.crash(down=HOUR)
    before = lives.api.parts.journal.oldest_finished()
    lives.api.advance(1)

    assert before is not None
    assert lives.api.parts.journal.oldest_finished() is None


def test_what_is_just_being_tried_again_is_not_forgotten(settings: Settings, where: str) -> None:
    """Its retention ends between the look at it and the record."""
    with serving(replace(settings, journal=where), threaded=False) as api:
        api.upstream.reply = replies(NO)
        ingestion_id = api.ingest([1])
        api.advance(600)
        forgetting = Meanwhile(Housekeeping(api.parts.embedded._core).tidy)
        start_counts = api.parts.journal.start_counts

        def counting(ingestion_id: str) -> dict[int, int]:
            counted = start_counts(ingestion_id)
            with freeze_time("2026-01-01T13:30:00Z"):
                forgetting.begin()
            return counted

        api.parts.journal.start_counts = counting  # type: ignore[method-assign]
        retry(api, ingestion_id)
        forgetting.end()
        api.advance(10)
        assert api.status(ingestion_id)["outcome"] == "succeeded"
        api.advance(600)
        assert api.status(ingestion_id)["outcome"] == "succeeded"
        api.parts.journal.close()


def test_a_finished_one_stays_in_sight_when_it_leaves_the_memory(still: Api) -> None:
    """The journal has had it before."""
    ingestion_id = still.ingest([1])
    still.advance(2)
    first = still.status(ingestion_id)
    for _ in range(70):
        still.advance(1)
        assert still.status(ingestion_id) == first
