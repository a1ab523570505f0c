"""What is decided about the outcomes of a batch."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.items import Kind
from ingest_service.domain.model import Batch, ItemState, Outcome
from ingest_service.domain.retry_policy import UNREACHABLE, CircuitBreaker, RetryPolicy
from ingest_service.domain.settlement import Decision, decide

FINE = Outcome(succeeded=True, processed_data="fine")
NO = Outcome(succeeded=False, error="no")
LATER = Outcome(succeeded=False, error="later", transient=True)
NOBODY = replace(LATER, error="nobody there", unreachable=True)
UNSENT = replace(NOBODY, unsent=True)
POLICY = RetryPolicy(
    max_attempts=3, backoff=1, backoff_max=60, max_retry_after=3_600, chance=lambda: 1.0
)
OPEN = CircuitBreaker(missed=UNREACHABLE, probes=1)


def batch(items: int, attempt: int = 1) -> Batch:
    """Return a batch of so many items."""
    return Batch("i", 1, "b", Kind.IDS, 7, 4, attempt, range(items), list(range(items)))


def decision(
    outcomes: Sequence[Outcome], attempt: int = 1, breaker: CircuitBreaker | None = None
) -> Decision:
    """Decide about a batch that ended at 100 with these outcomes."""
    return decide(
        batch(len(outcomes), attempt),
        outcomes,
        POLICY,
        breaker or CircuitBreaker(),
        interval=5.0,
        ended_at=99.0,
        decided_at=100.0,
    )


def test_what_has_ended_is_not_sent_again() -> None:
    decided = decision([FINE, NO])

    assert decided.resend is None
    assert [outcome.state for outcome in decided.outcomes] == [
        ItemState.SUCCEEDED,
        ItemState.FAILED,
    ]
    assert decided.probe_wait is None


def test_only_what_may_still_succeed_is_sent_again_as_the_next_attempt() -> None:
    resend = decision([FINE, LATER, NO, LATER]).resend

    assert resend is not None
    assert (resend.index, resend.start_no, resend.attempt) == (7, 5, 2)
    assert list(resend.offsets) == [1, 3]


def test_a_whole_batch_that_is_sent_again_is_the_same_request() -> None:
    """A range of offsets means all, and is known by the same key."""
    resend = decision([LATER, LATER]).resend

    assert resend is not None
    assert resend.offsets == range(2)


@pytest.mark.parametrize(("attempt", "wait"), [(1, 1.0), (2, 2.0)])
def test_the_wait_doubles_with_every_attempt(attempt: int, wait: float) -> None:
    assert decision([LATER], attempt).wait == wait


def test_the_last_attempt_makes_an_outcome_final() -> None:
    decided = decision([LATER, FINE], attempt=3)

    assert decided.resend is None
    assert decided.outcomes[0] == replace(LATER, transient=False, attempts=3)
    assert decided.outcomes[1].attempts == 3


def test_an_attempt_of_which_nothing_was_sent_does_not_count() -> None:
    """It is not the items' fault; it waits all the same, or it would take every slot."""
    decided = decision([UNSENT, UNSENT], attempt=3)

    assert decided.resend is not None
    assert (decided.resend.attempt, decided.wait) == (3, 4.0)


def test_what_was_never_sent_does_not_fail_beside_what_was() -> None:
    """Not even at the last attempt of its batch."""
    decided = decision([FINE, UNSENT, LATER], attempt=POLICY.max_attempts)

    assert [outcome.transient for outcome in decided.outcomes] == [False, True, False]
    assert decided.resend is not None
    assert (list(decided.resend.offsets), decided.resend.attempt) == ([1], POLICY.max_attempts)


def test_while_nobody_is_there_attempts_do_not_count_and_the_upstream_is_left_alone() -> None:
    """The wait between probes grows with each."""
    first = decision([NOBODY] * UNREACHABLE, attempt=3)
    second = decision([NOBODY], attempt=3, breaker=first.breaker)

    assert first.breaker.is_open
    assert first.resend is not None
    assert first.resend.attempt == 3
    assert (first.probe_wait, second.probe_wait) == (5.0, 10.0)


def test_one_answer_closes_the_breaker() -> None:
    decided = decision([NO], breaker=OPEN)

    assert not decided.breaker.is_open
    assert decided.probe_wait is None


@given(
    outcomes=st.lists(st.sampled_from([FINE, NO, LATER, NOBODY, UNSENT]), min_size=1, max_size=6),
    attempt=st.integers(1, 3),
    missed=st.integers(0, 2 * UNREACHABLE),
)
def test_every_item_either_ends_or_is_sent_again(
    outcomes: list[Outcome], attempt: int, missed: int
) -> None:
    """Whatever the outcomes are; attempts never run backwards and never beyond the limit."""
    decided = decision(outcomes, attempt, CircuitBreaker(missed))
    again = [n for n, outcome in enumerate(decided.outcomes) if outcome.transient]

    assert again == (list(decided.resend.offsets) if decided.resend else [])
    assert len(decided.outcomes) == len(outcomes)
    if decided.resend is not None:
        assert attempt <= decided.resend.attempt <= min(attempt + 1, POLICY.max_attempts)


def test_one_batch_that_reached_nobody_is_an_attempt_like_any_other() -> None:
    """Only once nobody has been there for a while it is not its fault."""
    assert decision([NOBODY], attempt=3).resend is None
    assert decision([NOBODY], attempt=3, breaker=OPEN).resend is not None
    assert decision([NOBODY, LATER], attempt=3, breaker=OPEN).resend is None


def test_waits_count_from_the_end_that_was_seen() -> None:
    decided = decision([LATER])

    assert (decided.ended_at, decided.decided_at, decided.wait) == (99.0, 100.0, 1.0)
