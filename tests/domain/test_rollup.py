"""Counters: whatever way they are put together, they say what a recount says."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain import rollup
from ingest_service.domain.history import (
    MOST_STEPS,
    MinuteRow,
    PaceAt,
    PeriodError,
    minute_of,
    period,
    steps,
)
from ingest_service.domain.model import Outcome, Priority
from ingest_service.domain.rollup import LONG, WAIT, Histogram

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BUCKETS = Histogram("some", [1, 2, 5, 10])
#: Events: (second of an hour, how long something waited).
EVENTS = st.lists(st.tuples(st.integers(0, 3_599), st.floats(0, 1e6)))


def rows(events: Sequence[tuple[int, float]]) -> list[MinuteRow]:
    """Return the minutes in which batches of an item were started that had waited so long."""
    minutes: dict[int, dict[str, int]] = {}
    for second, waited in events:
        counts = rollup.started(Priority.LOW, 1, None, waited)
        minute = minute_of(NOON + timedelta(seconds=second))
        rollup.add(minutes.setdefault(minute, {}), counts)
    return [MinuteRow(minute, counts, None) for minute, counts in sorted(minutes.items())]


@given(EVENTS, st.integers(1, 70))
def test_steps_add_up_to_a_recount_of_the_events(
    events: list[tuple[int, float]], minutes: int
) -> None:
    """Whatever the steps are."""
    step = minutes * MINUTE
    told = steps(rows(events), NOON, step, -(-60 // minutes), [], NOON)
    recount = Counter(second // (60 * minutes) for second, _ in events)
    started = rollup.both("started", Priority.LOW)
    assert [[each.counts.get(name, 0) for name in started] for each in told] == [
        [recount[number]] * 2 for number in range(len(told))
    ]
    buckets = [
        sum(column)
        for column in zip(*(WAIT[Priority.LOW].buckets(each.counts) for each in told), strict=True)
    ]
    bounds = [-1, *LONG, float("inf")]
    assert buckets == [
        sum(low < waited <= high for _, waited in events) for low, high in pairwise(bounds)
    ]


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_the_bound_of_the_bucket_that_the_exact_one_is_in(
    values: list[float], share: float
) -> None:
    counts: dict[str, int] = {}
    for value in values:
        rollup.add(counts, BUCKETS.of(value))
    exact = next(
        value for at, value in enumerate(sorted(values), 1) if at >= max(1.0, share * len(values))
    )
    assert BUCKETS.quantiles(counts, [share]) == [
        next(bound for bound in BUCKETS.bounds if bound >= exact)
    ]


def test_a_quantile_beyond_all_bounds_is_unknown_and_so_are_those_of_nothing() -> None:
    assert BUCKETS.quantiles(BUCKETS.of(11), [0.5, 1]) == [None, None]
    assert BUCKETS.quantiles({}, [0.5]) is None
    assert BUCKETS.seconds(BUCKETS.of(11)) == 11


BUSY = Outcome(succeeded=False, status_code=503, transient=True)
GONE = Outcome(succeeded=False, status_code=404)
LOST = Outcome(succeeded=False, unreachable=True, transient=True)
FULL = Outcome(succeeded=False, status_code=429, transient=True)
UNSENT = Outcome(succeeded=False, unsent=True, transient=True)
ODD = Outcome(succeeded=False, error="unreadable")
GOOD = Outcome(succeeded=True)


@pytest.mark.parametrize(
    ("outcomes", "batch", "items", "errors"),
    [
        ([GOOD, GOOD], "succeeded", {"succeeded": 2}, {}),
        ([GOOD, GONE], "partially_failed", {"succeeded": 1, "failed": 1}, {"client_error": 1}),
        ([ODD], "failed", {"failed": 1}, {"other": 1}),
        ([GOOD, BUSY, FULL], "retried", {"succeeded": 1}, {"server_error": 1, "rate_limited": 1}),
        ([LOST, UNSENT], "retried", {}, {"unreachable": 1, "unsent": 1}),
    ],
)
def test_an_end_is_counted_by_its_outcomes(
    outcomes: list[Outcome], batch: str, items: dict[str, int], errors: dict[str, int]
) -> None:
    """What is sent again has ended neither well nor badly, and is counted by its reason."""
    counts = rollup.settled(Priority.HIGH, outcomes)
    again = [rollup.error_kind(outcome) for outcome in outcomes if outcome.transient]
    assert counts == {
        rollup.settled_batches(Priority.HIGH, batch): 1,
        **{rollup.settled_items(Priority.HIGH, word): count for word, count in items.items()},
        **{f"error.{kind}": count for kind, count in errors.items()},
        **{f"retry.{kind}": count for kind, count in Counter(again).items()},
    }


def test_of_a_cancelled_ingestion_nothing_is_sent_again() -> None:
    counts = rollup.settled(Priority.HIGH, [GOOD, BUSY], cancelled=True)
    assert counts == {
        "settled.HIGH.batches.cancelled": 1,
        "settled.HIGH.items.succeeded": 1,
        "settled.HIGH.items.cancelled": 1,
        "error.server_error": 1,
    }


def slots(*paces: PaceAt, count: int = 4, now: timedelta = timedelta(hours=1)) -> list[int | None]:
    """Return the slots of the minutes from noon on."""
    return [step.slots for step in steps([], NOON, MINUTE, count, paces, NOON + now)]


def pace(
    minutes: float, interval: float = 5, *, paused: bool = False, held: float | None = None
) -> PaceAt:
    """Return how slots open from so many minutes after noon on, held for as many."""
    at = NOON + minutes * MINUTE
    return PaceAt(at, interval, paused, None if held is None else at + held * MINUTE)


def test_slots_are_those_that_the_pace_had_given() -> None:
    assert slots(pace(-1)) == [12, 12, 12, 12]
    assert slots(pace(-1), pace(1.5, 10)) == [12, 9, 6, 6]
    assert slots(pace(-1, 7)) == [9, 8, 9, 8]


def test_there_are_no_slots_while_it_is_paused_or_held() -> None:
    assert slots(pace(-1), pace(1, paused=True), pace(2.5)) == [12, 0, 6, 12]
    assert slots(pace(-1), pace(0.5, held=1.5)) == [6, 0, 12, 12]


def test_slots_are_unknown_without_a_limit_and_before_anything_is_on_record() -> None:
    assert slots(pace(-1), pace(1, 0), pace(2)) == [12, None, 12, 12]
    assert slots(pace(1.5)) == [None, None, 12, 12]
    assert slots() == [None] * 4


def test_slots_to_come_do_not_count() -> None:
    assert slots(pace(-1), now=1.5 * MINUTE) == [12, 6, 0, 0]


def test_what_waits_is_what_waited_after_the_last_change() -> None:
    """And nothing is known before the first one, or of the future."""
    begun = minute_of(NOON)
    changes = [MinuteRow(begun + minute, {}, {"depth": minute}) for minute in (1, 3)]
    told = steps(changes, NOON, MINUTE, 6, [], NOON + 4 * MINUTE)
    assert [step.depth for step in told] == [
        None,
        *[{"depth": 1}] * 2,
        *[{"depth": 3}] * 2,
        None,
    ]


def test_a_period_nobody_has_named_is_the_last_hour_in_minutes() -> None:
    now = NOON + timedelta(seconds=30)
    asked = period(None, None, None, now)
    assert asked == (NOON - 59 * MINUTE, now, MINUTE)
    assert -((asked.since - asked.until) // asked.step) == 60


def test_a_period_is_told_in_sixty_round_steps_at_most() -> None:
    day, week = timedelta(days=1), timedelta(days=7)
    assert period(NOON - day, NOON, None, NOON).step == 30 * MINUTE
    assert period(NOON - week, NOON, None, NOON).step == 180 * MINUTE
    assert period(NOON - 13 * week, NOON, None, NOON).step == 2 * day
    assert period(NOON - timedelta(seconds=1), NOON, None, NOON) == (NOON - MINUTE, NOON, MINUTE)


@given(
    st.integers(0, 10**8),
    st.integers(-(10**6), 10**8),
    st.one_of(st.none(), st.integers(1, 10**5)),
)
def test_a_period_covers_what_was_asked_for_or_is_refused(
    since: int, length: int, minutes: int | None
) -> None:
    """In no more steps than are told."""
    begin = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=since)
    end = begin + timedelta(seconds=length)
    step = None if minutes is None else minutes * MINUTE
    try:
        asked = period(begin, end, step, NOON)
    except PeriodError:
        assert end <= begin or (step and (end - begin) / step > MOST_STEPS - 1)
        return
    assert begin - (MINUTE if step else asked.step) < asked.since <= begin
    assert asked.until == end > asked.since
    assert not (asked.since - datetime(1970, 1, 1, tzinfo=UTC)) % (MINUTE if step else asked.step)
    assert 0 < (asked.until - asked.since) / asked.step <= MOST_STEPS
