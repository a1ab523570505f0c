"""What is ready keeps nothing that nobody needs any more."""

from ingest_service.domain.items import Ids
from ingest_service.domain.model import Priority
from ingest_service.domain.pace import Pace
from ingest_service.engines.embedded.state import QueueState
from tests.engines.embedded.journals.support import NOW, ingestion


def test_what_is_cancelled_behind_one_that_waits_for_long_does_not_pile_up() -> None:
    """A paused queue in which a script accepts and cancels kept every one of them in memory."""
    state = QueueState(Pace(5.0, 0.0), lambda: None)
    first = ingestion(1, Ids([1]))
    state.add(first, since=0.0, filled_at=0.0)
    for sequence in range(2, 1_000):
        given_up = ingestion(sequence, Ids([1]))
        state.add(given_up, since=0.0, filled_at=0.0)
        state.cancel(given_up, NOW)

    assert len(state.ready) < 200
    assert state.ready.heads() == [first]


def test_what_is_moved_to_and_fro_does_not_pile_up() -> None:
    """Each move leaves a place behind; the order of what waits is not touched."""
    state = QueueState(Pace(5.0, 0.0), lambda: None)
    waiting = [ingestion(sequence, Ids([1])) for sequence in (1, 2, 3)]
    for one in waiting:
        state.add(one, since=0.0, filled_at=0.0)
    for _ in range(500):
        for priority in (Priority.HIGH, Priority.LOW):
            state.move(waiting[1], priority)

    assert len(state.ready) < 500
    assert [state.ready.get(Priority.LOW).sequence for _ in waiting] == [1, 2, 3]


def test_what_was_ready_is_told_later_as_it_was() -> None:
    """Whoever walks through everything does so without the lock."""
    state = QueueState(Pace(5.0, 0.0), lambda: None)
    first, second = ingestion(1, Ids([1])), ingestion(2, Ids([1]))
    for one in (first, second):
        state.add(one, since=0.0, filled_at=0.0)
    lines = state.index.lines()
    state.move(first, Priority.HIGH)
    state.cancel(second, NOW)

    assert [[entry.sequence for entry in line] for line in lines()] == [[], [], [1, 2]]
    assert {entry.priority for line in lines() for entry in line} == {Priority.LOW}
