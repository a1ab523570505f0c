"""How long to wait before trying again, by hand."""

import pytest

from ingest_service.domain.model import Outcome
from ingest_service.domain.retry_policy import CircuitBreaker, RetryPolicy

AWAY = Outcome(succeeded=False, error="nobody there", unreachable=True)
REFUSED = Outcome(succeeded=False, error="no")
DONE = Outcome(succeeded=True)


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(0, 2.0), (1, 2.0), (2, 4.0), (3, 8.0), (6, 60.0), (5_000, 60.0)]
)
def test_the_wait_doubles_with_each_attempt_up_to_the_longest(attempt: int, seconds: float) -> None:
    policy = RetryPolicy(9, backoff=2.0, backoff_max=60.0, max_retry_after=1.0, chance=lambda: 1.0)

    assert policy.wait(attempt) == seconds


def test_chance_spreads_the_waits_over_all_of_it() -> None:
    """Full jitter: from nothing to the whole of it, so that not everybody comes back at once."""
    waits = [
        RetryPolicy(9, 2.0, 60.0, 1.0, chance=lambda share=share: share).wait(3)  # type: ignore[misc]
        for share in (0.0, 0.25, 1.0)
    ]

    assert waits == [0.0, 2.0, 8.0]


def test_by_itself_chance_is_chance() -> None:
    waits = {RetryPolicy(9, 2.0, 60.0, 1.0).wait(3) for _ in range(20)}

    assert len(waits) == 20
    assert all(0.0 <= wait <= 8.0 for wait in waits)


@pytest.mark.parametrize(
    ("probes", "interval", "seconds"),
    [(0, 1.0, 2.0), (1, 1.0, 2.0), (2, 1.0, 4.0), (3, 5.0, 20.0), (99, 1.0, 60.0)],
)
def test_who_is_not_there_is_left_alone_twice_as_long_each_time(
    probes: int, interval: float, seconds: float
) -> None:
    """From the backoff or the interval on, whichever is longer, and never by chance."""
    policy = RetryPolicy(9, 2.0, 60.0, 1.0, chance=lambda: 0.0)

    assert policy.wait_to_probe(CircuitBreaker(5, probes), interval) == seconds


def test_five_in_a_row_that_cannot_be_sent_open_the_breaker() -> None:
    breaker = CircuitBreaker().after([AWAY, AWAY]).after([REFUSED]).after([AWAY] * 4)
    assert not breaker.is_open
    assert breaker == CircuitBreaker(missed=4, probes=0)

    breaker = breaker.after([AWAY])
    assert breaker.is_open
    assert breaker.probes == 1
    assert breaker.after([AWAY]) == CircuitBreaker(missed=6, probes=2)


@pytest.mark.parametrize("answer", [DONE, REFUSED], ids=["success", "refusal"])
def test_any_answer_closes_it(answer: Outcome) -> None:
    breaker = CircuitBreaker(missed=7, probes=3).after([answer])

    assert breaker == CircuitBreaker()
