"""What is tried again is there at every moment."""

from datetime import timedelta
from threading import Thread

import pytest
from freezegun.api import FrozenDateTimeFactory

from ingest_service.app import Parts, build
from ingest_service.domain.items import Ids
from ingest_service.domain.model import ItemState, Outcome, Priority
from ingest_service.engines import ListQuery
from ingest_service.engines.embedded.housekeeping import Housekeeping
from ingest_service.engines.embedded.journal import Reopened
from ingest_service.settings import Settings
from tests.engines.embedded.support import WatchedJournal
from tests.realtime import GUARD
from tests.support import FrozenClock, RecordingUpstream


@pytest.fixture
def journal() -> WatchedJournal:
    """Return the journal of the service."""
    return WatchedJournal()


@pytest.fixture
def parts(frozen: FrozenDateTimeFactory, journal: WatchedJournal) -> Parts:
    """Return a service of which everything fails."""
    clock = FrozenClock()
    upstream = RecordingUpstream(clock, latency=0)
    upstream.reply = lambda batch: [Outcome(succeeded=False, error="no")] * len(batch.items)
    return build(
        Settings(settle=0, retention=3_600), clock=clock, journal=journal, upstream=upstream
    )


@pytest.fixture
def ingestion_id(parts: Parts, frozen: FrozenDateTimeFactory) -> str:
    """Return an ingestion that has failed so long ago that only the journal knows it."""
    ingestion_id = parts.service.submissions.accept(Ids([1, 2]), Priority.LOW).ingestion_id
    for seconds in (0, 0, 61, 0):
        frozen.tick(timedelta(seconds=seconds))
        parts.worker.step()
    return ingestion_id


def test_what_is_being_opened_again_is_found_by_everybody(
    parts: Parts, journal: WatchedJournal, ingestion_id: str
) -> None:
    """As it was until that is in effect; it is never neither finished nor unfinished."""
    queries = parts.service.queries
    seen: list[object] = []

    def look() -> None:
        seen.append(queries.status(ingestion_id).counts.retrying)
        seen.append([entry.ingestion_id for entry in queries.ingestions(ListQuery(2**62, 10))])
        seen.append(len(queries.results(ingestion_id, [ItemState.FAILED], 0, 10)[1]))

    looker = Thread(target=look, daemon=True)

    def look_now(change: object) -> None:
        if isinstance(change, Reopened):
            looker.start()
            looker.join(GUARD)

    journal.after = look_now
    assert parts.service.operator.retry(ingestion_id) == 2
    looker.join(GUARD)

    assert seen == [0, [ingestion_id], 2]


def test_what_is_being_opened_again_is_not_forgotten_meanwhile(
    parts: Parts, journal: WatchedJournal, ingestion_id: str, frozen: FrozenDateTimeFactory
) -> None:
    """Its retention ends just before that is recorded, and the worker tidies up."""
    tidier = Thread(target=Housekeeping(parts.embedded._core).tidy, daemon=True)

    def tidy_now(change: object) -> None:
        if isinstance(change, Reopened):
            frozen.tick(timedelta(hours=2))
            tidier.start()
            # Enough for whoever does not wait until the change is in effect.
            tidier.join(0.2)

    journal.before = tidy_now
    assert parts.service.operator.retry(ingestion_id) == 2
    tidier.join(GUARD)

    assert parts.service.queries.status(ingestion_id).counts.settled == 0
