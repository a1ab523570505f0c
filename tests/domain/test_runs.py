"""What is made of going through the slots: the next ones, a move tried out, a newcomer."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.model import Priority
from ingest_service.domain.policy import QueueEntry
from ingest_service.domain.runs import as_if_moved, delays, joined_by, next_served, upcoming
from ingest_service.domain.snapshot import Place
from tests.domain.queues import PRIORITIES, Queue, entry, queues


@given(queue=queues(), count=st.integers(1, 60))
def test_the_slots_to_come_are_the_first_of_all(queue: Queue, count: int) -> None:
    coming = [(at, each.sequence) for at, each in upcoming(queue.snapshot(), count)]
    slots = [(at, each.sequence) for at, each in queue.slots()]

    assert coming == slots[:count]


@given(queue=queues())
def test_what_is_served_next_is_what_the_first_slot_serves(queue: Queue) -> None:
    slots = queue.slots()
    served = next_served(queue.snapshot())

    assert (served and served.sequence) == (slots[0][1].sequence if slots else None)


@given(queue=queues(), data=st.data(), priority=PRIORITIES)
def test_a_move_that_is_tried_out_is_as_if_it_had_been_accepted_like_that(
    queue: Queue, data: st.DataObject, priority: Priority
) -> None:
    """It keeps its place among those of its new class; what joins later changes too."""
    chosen = data.draw(st.sampled_from(queue.entries))
    place = Place(chosen.sequence, chosen.priority, chosen.batches, None, None, None)
    tried, lines = as_if_moved(queue.snapshot(place), queue.lines, priority)

    def moved(each: QueueEntry) -> QueueEntry:
        return each._replace(priority=priority) if each.sequence == chosen.sequence else each

    accepted = replace(
        queue,
        entries=[moved(each) for each in queue.entries],
        retries=[each._replace(entry=moved(each.entry)) for each in queue.retries],
    )
    assert lines == accepted.lines
    assert tried.place is not None
    assert tried.place.priority is priority
    assert tried.retries == tuple(accepted.retries)
    if priority is not chosen.priority:
        assert tried.place.forecast == accepted.forecast(moved(chosen))


@given(queue=queues(), priority=PRIORITIES)
def test_where_nobody_is_asked_about_nobody_is_moved(queue: Queue, priority: Priority) -> None:
    snapshot, lines = queue.snapshot(), queue.lines

    assert as_if_moved(snapshot, lines, priority) == (snapshot, lines)


def test_a_newcomer_stands_at_the_end_of_its_class() -> None:
    lines = [[entry(1, Priority.HIGH, 1)], [entry(2, Priority.MEDIUM, 1)], []]
    newcomer = entry(3, Priority.MEDIUM, 2)

    assert joined_by(newcomer, lines, 2) == [lines[0], [*lines[1], newcomer], []]
    assert joined_by(newcomer, lines, 0) == lines


def test_a_move_delays_those_that_start_later_than_before() -> None:
    """Not the one that is moved, nor what comes or goes, nor what is late by a rounding."""
    before = {1: 10.0, 2: 20.0, 3: 30.0, 4: 40.0, 5: 50.0}
    after = {1: 10.0, 2: 25.0, 3: 28.0, 4: 45.0, 5: 50.0 + 1e-7, 6: 90.0}

    assert delays(before, after, moved=4) == [5.0]
