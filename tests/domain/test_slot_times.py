"""When slots open while batches are under way: by hand, and beside going from one to the next."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.slot_times import SlotModel, SlotTimes, expected_end
from tests.domain.queues import models, quarters

COUNT = 60


def one_by_one(model: SlotModel, now: float, gap: tuple[int, float]) -> list[float]:
    """Return when the first slots open; what the gap's slot is for is there at its instant."""
    number, there_at = gap
    ends = [max(end, now) for end in model.ends]
    opens_at, slots = max(model.opens_at, now), list[float]()
    for each in range(COUNT):
        at = max(opens_at, there_at) if each == number else opens_at
        while sum(end > at for end in ends) >= model.concurrent:
            at = min(end for end in ends if end > at)
        slots.append(at)
        ends.append(at + model.duration)
        opens_at = at + model.interval
    return slots


@given(model=models, now=quarters, number=st.integers(0, COUNT // 2), there_at=st.integers(0, 400))
def test_a_slot_opens_when_going_from_one_to_the_next_leads_there(
    model: SlotModel, now: float, number: int, there_at: int
) -> None:
    """Whatever is under way, before and after a slot that had nothing to serve for a while."""
    slots = one_by_one(model, now, (number, there_at / 4))
    times, before = SlotTimes(model, now), SlotTimes(model, now)
    assert [before.at(each) for each in range(number)] == slots[:number]

    times.delay(number, there_at / 4)
    assert [times.at(each) for each in range(number, COUNT)] == slots[number:]


@given(model=models, number=st.integers(0, 20), most=st.integers(0, 30), at=quarters)
def test_slots_before_an_instant_are_counted_as_if_one_by_one(
    model: SlotModel, number: int, most: int, at: float
) -> None:
    times = SlotTimes(model, 0.0)
    instant = times.at(number) + at
    slots = [times.at(each) for each in range(number, number + most)]

    assert times.count_before(instant, number, most) == sum(each < instant for each in slots)


@pytest.mark.parametrize(
    ("duration", "now", "end"),
    [
        (5.0, 12.0, 15.0),
        (5.0, 14.9, 15.0),
        (5.0, 15.0, 20.0),
        (5.0, 19.9, 20.0),
        (5.0, 20.0, 30.0),
        (0.25, 10.5, 11.0),
        (0.25, 11.0, 12.0),
        (0.25, 12.0, 14.0),
    ],
)
def test_a_batch_that_takes_longer_is_expected_to_take_twice_as_long(
    duration: float, now: float, end: float
) -> None:
    """Started at 10; in steps that grow from a second, so that it is seldom news."""
    assert expected_end(10.0, duration, now) == end


def test_what_is_under_way_keeps_slots_closed_until_it_ends() -> None:
    """Two at a time, and two are under way until 103 and 109."""
    times = SlotTimes(SlotModel(100.0, 2.0, 4.0, 2, (103.0, 109.0)), 100.0)

    assert [times.at(number) for number in range(4)] == [103.0, 107.0, 109.0, 111.0]


def test_what_should_have_ended_ends_now() -> None:
    times = SlotTimes(SlotModel(0.0, 2.0, 4.0, 1, (90.0,)), 100.0)

    assert times.at(0) == 100.0


def test_counting_slots_before_an_instant_stops_at_the_most_that_are_asked_for() -> None:
    times = SlotTimes(SlotModel(0.0, 5.0, 1.0, 1), 0.0)

    assert [times.count_before(instant, 2, 4) for instant in (10.0, 10.1, 20.0, 99.0)] == [
        0,
        1,
        2,
        4,
    ]
    assert times.count_before(99.0, 0, 0) == 0
