"""When the next slot opens, by hand."""

import math

import pytest

from ingest_service.domain.pace import Pace


def test_the_first_slot_opens_once_an_empty_queue_has_settled() -> None:
    assert Pace(5.0, 0.5).opens_at(filled_at=100.0) == 100.5


def test_slots_are_an_interval_apart_from_start_to_start() -> None:
    pace = Pace(5.0, 0.5).taken(100.5)

    assert pace.opens_at(filled_at=100.0) == 105.5
    assert pace.gap(105.5) == 5.0


def test_the_interval_counts_from_when_a_request_really_went_out() -> None:
    """Connecting took a while; an earlier moment changes nothing."""
    pace = Pace(5.0, 0.5).taken(100.0).sent(100.25).sent(99.0)

    assert pace.opens_at(filled_at=0.0) == 105.25


@pytest.mark.parametrize(
    ("last", "opens_at"),
    [(98.0, 103.0), (90.0, 95.0), (None, 105.0), (100.0, 105.0), (170.0, 105.0)],
    ids=["rest", "long ago", "unknown", "just now", "in the future"],
)
def test_after_a_restart_the_rest_of_the_interval_is_waited_and_never_more_than_one(
    last: float | None, opens_at: float
) -> None:
    """Restarted at 100; nobody can tell how much is over when the last start is not known."""
    pace = Pace(5.0, 0.5).resumed(last, now=100.0)

    assert pace.next_at == opens_at


def test_a_slot_that_is_taken_and_sent_ends_neither_a_pause_nor_a_hold() -> None:
    """Both can come while the batch is on its way; the gap counts from when it was started."""
    pace = Pace(5.0, 0.5, held_until=200.0, probe_at=300.0, paused="maintenance")
    after = pace.taken(100.0).sent(101.0)

    assert after == pace._replace(last_at=101.0, started_at=100.0)


def test_a_hold_a_probe_and_a_pause_all_keep_the_slot_closed() -> None:
    """The longest of them counts, and nobody knows when a pause ends."""
    pace = Pace(5.0, 0.5, held_until=200.0, probe_at=300.0)
    assert pace.opens_at(filled_at=0.0) == 300.0
    assert pace._replace(paused="maintenance").opens_at(filled_at=0.0) == math.inf


def test_a_hold_is_only_ever_extended() -> None:
    pace = Pace(5.0, 0.5).held(200.0).held(150.0)

    assert pace.held_until == 200.0


@pytest.mark.parametrize(("last", "gap"), [(98.0, 5.0), (None, None)])
def test_after_a_restart_the_gap_counts_from_the_last_start_that_is_known(
    last: float | None, gap: float | None
) -> None:
    assert Pace(5.0, 0.5, started_at=1.0).resumed(last, now=100.0).gap(103.0) == gap
