"""When slots open while batches are under way, by hand."""

import pytest

from ingest_service.domain.slot_times import SlotModel, SlotTimes, expected_end


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
