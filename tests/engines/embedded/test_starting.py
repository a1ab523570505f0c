"""What everybody sees while the start of a batch is being recorded, however long that takes."""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from freezegun.api import FrozenDateTimeFactory

from ingest_service.app import build
from ingest_service.domain.items import Ids
from ingest_service.domain.model import Priority
from ingest_service.engines.embedded.journal import FINISHED_VERSION, Change, Started
from ingest_service.errors import StorageUnavailable
from ingest_service.service.reports import Estimate
from ingest_service.settings import Settings
from tests.engines.embedded.support import WatchedJournal
from tests.support import FrozenClock, RecordingUpstream


@dataclass
class Scene:
    """A service with one ingestion of one batch that is about to be started."""

    journal: WatchedJournal = field(default_factory=WatchedJournal)
    clock: FrozenClock = field(default_factory=FrozenClock)

    def __post_init__(self) -> None:
        self.upstream = RecordingUpstream(self.clock)
        self.parts = build(
            Settings(settle=0), clock=self.clock, journal=self.journal, upstream=self.upstream
        )
        accepted = self.parts.service.submissions.accept(Ids([1, 2]), Priority.LOW)
        self.ingestion_id = accepted.ingestion_id

    def estimate(self) -> Estimate | None:
        """Return what the ingestion can expect."""
        return self.parts.service.queries.estimate(self.ingestion_id)


@pytest.fixture
def scene(frozen: FrozenDateTimeFactory) -> Scene:
    """Give it in frozen time."""
    return Scene()


def test_a_batch_waits_until_its_start_is_recorded(scene: Scene) -> None:
    """The status said that nothing was started and that the last batch was under way."""
    before, during = scene.estimate(), list[Estimate | None]()
    scene.journal.before = lambda _: during.append(scene.estimate())
    scene.parts.worker.step()

    assert during
    assert set(during) == {before}


def test_the_time_of_a_start_that_took_long_to_record_stays_the_same(
    scene: Scene, frozen: FrozenDateTimeFactory
) -> None:
    """It was recorded again; memory knew the last record of it, and the journal the first."""
    scene.journal.after = lambda _: frozen.tick(timedelta(seconds=0.1))
    scene.parts.worker.step()
    status = scene.parts.service.queries.status
    shown = status(scene.ingestion_id).started_at
    for seconds in (1, 61):
        frozen.tick(timedelta(seconds=seconds))
        scene.parts.worker.step()

    assert status(scene.ingestion_id).version == FINISHED_VERSION
    assert status(scene.ingestion_id).started_at == shown


@pytest.mark.parametrize("error", [StorageUnavailable("full"), ValueError("a bug")])
def test_a_batch_whose_start_could_not_be_recorded_is_started_later(
    scene: Scene, error: Exception, frozen: FrozenDateTimeFactory
) -> None:
    """It keeps its place, whatever went wrong."""
    before = scene.estimate()

    def refuse(change: Change) -> None:
        if isinstance(change, Started):
            raise error

    scene.journal.before = refuse
    for _ in range(3):
        scene.parts.worker.step()
    assert not scene.upstream.starts
    assert scene.estimate() == before

    scene.journal.before = lambda _: None
    scene.parts.worker.step()
    assert [batch.items for _, batch in scene.upstream.starts] == [[1, 2]]
