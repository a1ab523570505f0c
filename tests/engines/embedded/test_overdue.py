"""What a restart has to record, and what happens before the disk takes it."""

from dataclasses import dataclass, field

import pytest
from freezegun.api import FrozenDateTimeFactory

from ingest_service.app import Parts, build
from ingest_service.domain.ingestion import Ingestion
from ingest_service.domain.model import ItemState, states_of
from ingest_service.engines import OperatorState
from ingest_service.engines.embedded.journal import OperatorChanged, Recovered
from ingest_service.errors import StorageUnavailable
from ingest_service.settings import Settings
from tests.engines.embedded.journals.support import BAD, NOW, accept, ingestion, take
from tests.engines.embedded.support import WatchedJournal
from tests.support import FrozenClock, RecordingUpstream


def refuse(_: object) -> None:
    """Refuse a record."""
    raise StorageUnavailable("full")


@dataclass
class LeftJournal(WatchedJournal):
    """Was left behind by another process; at first nothing can be written."""

    left: Ingestion = field(default_factory=lambda: ingestion(1))

    def __post_init__(self) -> None:
        super().__init__()
        accept(self, self.left)
        self.recovered = Recovered()

    def recover(self) -> Recovered:
        """Return what was left."""
        self.before = refuse
        return self.recovered


@pytest.fixture
def journal() -> LeftJournal:
    """Return it with an ingestion of two batches, of which one was started."""
    return LeftJournal()


def serve(journal: LeftJournal) -> Parts:
    """Start on the journal, and heal the disk."""
    clock = FrozenClock()
    parts = build(
        Settings(settle=0), clock=clock, journal=journal, upstream=RecordingUpstream(clock)
    )
    journal.before = lambda _: None
    return parts


def test_what_is_cancelled_before_it_can_be_given_up_stays_cancelled(
    journal: LeftJournal, frozen: FrozenDateTimeFactory
) -> None:
    """It had been started too often; whoever has cancelled it was answered that it is."""
    left = journal.left
    batch = take(left)
    left.item_states[:3] = bytes([ItemState.RETRYING]) * 3
    left.recount()
    journal.recovered = Recovered(unfinished=[left], hopeless=[batch], last_sequence=1)
    parts = serve(journal)

    cancelled = parts.service.operator.cancel(left.ingestion_id)
    parts.worker.step()
    assert parts.service.queries.status(left.ingestion_id) == cancelled
    assert cancelled.counts.cancelled == 4


def test_what_is_opened_again_before_its_end_is_recorded_does_not_end(
    journal: LeftJournal, frozen: FrozenDateTimeFactory
) -> None:
    """Its last batch was settled in vain, and then came the crash."""
    left = journal.left
    for _ in range(2):
        batch = take(left)
        left.settle(batch, states_of([BAD] * len(batch.items)), NOW)
    journal.recovered = Recovered(unfinished=[left], last_sequence=1)
    parts = serve(journal)

    assert parts.service.operator.retry(left.ingestion_id) == 4
    parts.worker.step()
    status = parts.service.queries.status(left.ingestion_id)
    assert (status.counts.settled, status.finished_at) == (0, None)


def test_what_an_operator_wants_before_a_setting_has_overruled_it_stays(
    journal: LeftJournal, frozen: FrozenDateTimeFactory
) -> None:
    """The setting overrules the interval of an earlier operator, and nothing of this one."""
    earlier = OperatorState(interval=2, configured_interval=9)
    journal.recovered = Recovered(operator=earlier, last_sequence=1)
    recorded: list[OperatorState] = []
    journal.after = lambda change: (
        recorded.append(change.state) if isinstance(change, OperatorChanged) else None
    )
    parts = serve(journal)

    parts.service.operator.pause("lunch")
    paused = parts.service.queries.queue()
    assert (paused.health.state, paused.interval) == ("paused", 5.0)
    parts.service.operator.set_interval(60)
    parts.worker.step()
    later = parts.service.queries.queue()
    assert (later.health.state, later.health.reason, later.interval) == ("paused", "lunch", 60)
    assert recorded[-1] == OperatorState("lunch", interval=60, configured_interval=5.0)
