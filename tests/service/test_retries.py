"""What is tried again: when, in which order, and what that does to everybody else."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingest_service.domain.model import Batch, Outcome
from ingest_service.domain.retry_policy import UNREACHABLE, CircuitBreaker, RetryPolicy
from ingest_service.settings import Settings
from tests.support import Api, serving

LATER = Outcome(succeeded=False, error="later", transient=True)
NEVER = Outcome(succeeded=False, error="never")
NOBODY = Outcome(succeeded=False, error="nobody there", transient=True, unreachable=True)
FINE = Outcome(succeeded=True, processed_data="fine")


@pytest.fixture(autouse=True)
def _longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every wait be the longest that chance allows."""
    monkeypatch.setattr("ingest_service.app.RetryPolicy", partial(RetryPolicy, chance=lambda: 1.0))


def hold(seconds: float) -> Outcome:
    """Ask to be left alone."""
    return Outcome(succeeded=False, error="slow down", transient=True, retry_after=seconds)


def replies(*each: Outcome | Sequence[Outcome]) -> Callable[[Batch], Any]:
    """Answer one batch after the other with `each`, and all after that with success."""
    left = iter(each)

    def reply(batch: Batch) -> Any:
        outcome = next(left, FINE)
        return [outcome] * len(batch.items) if isinstance(outcome, Outcome) else outcome

    return reply


class TestBackoff:
    """How long an item waits before it is tried again."""

    @pytest.fixture
    def settings(self) -> Settings:
        """Let nothing but the backoff matter."""
        return Settings(interval=0, settle=0, backoff=1, backoff_max=5)

    def test_the_wait_doubles_up_to_its_limit_and_so_do_the_attempts(self, api: Api) -> None:
        """Each counts from the end of the one before, which took a second."""
        api.upstream.reply = replies(*[LATER] * 9)
        ingestion_id = api.ingest([1])
        api.advance(60)

        assert api.sent() == [(0, [1]), (2, [1]), (5, [1]), (10, [1]), (16, [1])]
        assert api.status(ingestion_id)["outcome"] == "failed"
        assert api.results(ingestion_id)["results"][0]["error"] == "later"

    def test_only_what_failed_for_now_is_sent_again(self, api: Api) -> None:
        """What has succeeded or failed for good is settled at once."""
        api.upstream.reply = replies([FINE, LATER, NEVER], [FINE])
        ingestion_id = api.ingest([1, 2, 3])
        api.advance(1.5)
        counts = api.status(ingestion_id)["counts"]
        api.advance(10)

        assert (counts["succeeded"], counts["failed"], counts["queued"]) == (1, 1, 1)
        assert api.sent() == [(0, [1, 2, 3]), (2, [2])]
        assert api.status(ingestion_id)["counts"]["succeeded"] == 2

    def test_other_work_goes_on_while_an_item_waits(self, api: Api) -> None:
        """The line does not wait with it."""
        api.upstream.reply = replies(LATER)
        api.ingest([1])
        api.ingest([2])
        api.advance(60)

        assert api.sent() == [(0, [1]), (1, [2]), (2, [1])]


@pytest.mark.parametrize(("chance", "waits"), [(0.0, [0, 0, 0]), (0.5, [0.5, 1, 2])])
def test_the_wait_is_anything_up_to_its_longest(chance: float, waits: list[float]) -> None:
    """Full jitter: whoever failed together does not come back together."""
    patience = RetryPolicy(5, 1, 300, 3600, chance=lambda: chance)
    assert [patience.wait(attempt) for attempt in (1, 2, 3)] == waits


def test_the_wait_is_limited_however_many_attempts_there_were() -> None:
    """Also beyond what a float can say."""
    assert RetryPolicy(5, 1, 300, 3600, chance=lambda: 1.0).wait(100_000) == 300


def test_a_retry_pays_for_a_slot_in_its_class_at_its_old_place(api: Api) -> None:
    """Behind what is more urgent, in front of what came later."""
    api.upstream.reply = replies(LATER)
    api.ingest([1])
    api.ingest([2])
    api.advance(3)
    api.ingest([3], "HIGH")
    api.advance(60)

    assert api.sent() == [(0.45, [1]), (5.45, [3]), (10.45, [1]), (15.45, [2])]


def test_a_retry_goes_before_the_batches_of_its_ingestion_that_were_never_sent(api: Api) -> None:
    """As it would have, the first time."""
    api.upstream.reply = replies(LATER)
    api.ingest(range(1, 7))
    api.advance(60)

    assert api.sent() == [(0.45, [1, 2, 3]), (5.45, [1, 2, 3]), (10.45, [4, 5, 6])]


def test_a_hold_stops_all_starts_until_it_is_over(api: Api) -> None:
    """Urgent ones too; then it goes on at the pace."""
    api.upstream.reply = replies(hold(20))
    api.ingest([1])
    api.advance(3)
    api.ingest([2], "HIGH")
    api.advance(60)

    assert api.sent() == [(0.45, [1]), (21.45, [2]), (26.45, [1])]


def test_a_hold_that_is_shorter_than_the_interval_changes_nothing(api: Api) -> None:
    """The pace is slower than that anyway."""
    api.upstream.reply = replies(hold(2))
    api.ingest([1])
    api.advance(60)

    assert api.sent() == [(0.45, [1]), (5.45, [1])]


class TestTwoAtATime:
    """With another batch under way when the upstream asks to be left alone."""

    @pytest.fixture
    def settings(self) -> Settings:
        """Start the second batch while the first is still under way."""
        return Settings(interval=0.5, settle=0, max_concurrent_batches=2, upstream_max_hold=40)

    @pytest.mark.parametrize(
        ("first", "second", "until"), [(20, 5, 21), (5, 20, 21.5), (20, 900, 41.5), (0, 20, 21.5)]
    )
    def test_a_hold_is_only_ever_extended(
        self, api: Api, first: float, second: float, until: float
    ) -> None:
        """Up to what the operator allows."""
        api.upstream.reply = replies(hold(first), hold(second))
        api.ingest([1, 2, 3, 4])
        api.advance(0.9)
        api.upstream.latency = 0.1
        api.advance(80)

        assert [at for at, _ in api.sent()][:2] == [0, 0.5]
        after = [at for at, _ in api.sent() if at > 1.5]
        assert after[0] == until


def test_an_outage_costs_no_attempts_and_is_asked_after_less_and_less_often(api: Api) -> None:
    """One batch asks for all; with the first success everything goes on at the pace."""
    api.upstream.latency = 0
    api.upstream.reply = replies(*[NOBODY] * 9)
    ingestion_id = api.ingest(range(1, 7))
    api.advance(3_000)
    starts = [round(at, 2) for at, _ in api.sent()]
    gaps = [round(b - a, 1) for a, b in pairwise(starts)]
    attempts = [batch.attempt for _, batch in api.upstream.starts]

    assert gaps == [5, 5, 10, 20, 40, 80, 160, 300, 300, 5]
    assert max(attempts) == 2
    assert api.status(ingestion_id)["outcome"] == "succeeded"


def test_the_breaker_opens_after_so_many_misses_in_a_row_and_one_answer_closes_it() -> None:
    """A refusal is an answer too."""
    breaker = CircuitBreaker()
    for _ in range(UNREACHABLE - 1):
        breaker = breaker.after([NOBODY])
        assert not breaker.is_open
    assert breaker.after([NOBODY]).is_open
    assert not breaker.after([NOBODY, NEVER]).is_open


class Script:
    """An upstream that does what was drawn, item by item, and is fine after that."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        self._left = iter(outcomes)
        self.attempts: Counter[int] = Counter()
        self.ended: Counter[int] = Counter()

    def __call__(self, batch: Batch) -> list[Outcome]:
        """Note what is counted as an attempt, and what ends an item."""
        outcomes = [next(self._left, FINE) for _ in batch.items]
        for item, outcome in zip(batch.items, outcomes, strict=True):
            self.attempts[item] = max(self.attempts[item], batch.attempt)
            self.ended[item] += not outcome.transient
        return outcomes


@hypothesis_settings(max_examples=60)
@given(
    outcomes=st.lists(
        st.sampled_from([FINE, NEVER, LATER, LATER, NOBODY, NOBODY])
        | st.builds(hold, st.floats(0, 90)),
        max_size=60,
    ),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    concurrent=st.integers(1, 3),
    latency=st.sampled_from([0.0, 1.0, 7.5]),
)
def test_whatever_the_upstream_does_the_promises_hold(
    outcomes: list[Outcome], sizes: list[int], concurrent: int, latency: float
) -> None:
    """Counts add up at every moment, an item ends once, attempts and rate have their limits."""
    settings = Settings(max_concurrent_batches=concurrent, max_attempts=3, backoff_max=30)
    script = Script(outcomes)
    with serving(settings, threaded=False) as api:
        api.upstream.reply, api.upstream.latency = script, latency
        ids = [range(at * 10, at * 10 + size) for at, size in enumerate(sizes, 1)]
        ingestion_ids = [api.ingest(each) for each in ids]
        for _ in range(200):
            api.advance(37.3)
            counts = [api.status(each)["counts"] for each in ingestion_ids]
            assert all(sum(each.values()) == 2 * each["total"] for each in counts)
            if all(each["queued"] + each["in_flight"] == 0 for each in counts):
                break
        results = [api.results(each)["results"] for each in ingestion_ids]
        starts = [at for at, _ in api.upstream.starts]

    assert [[each["id"] for each in one] for one in results] == [list(each) for each in ids]
    assert all(count <= settings.max_attempts for count in script.attempts.values())
    assert all(count <= 1 for count in script.ended.values())
    assert all(b - a >= settings.interval - 1e-6 for a, b in pairwise(starts))


def test_batches_that_end_at_once_do_not_let_it_be_forgotten_that_nobody_is_there() -> None:
    """Five of their six items could not be sent: one more is tried, and only after a while."""
    settings = Settings(settle=0, interval=0, max_concurrent_batches=3, batch_size_ids=2)
    with serving(settings, threaded=False) as api:
        api.upstream.reply = lambda batch: [NOBODY] * len(batch.items)
        api.ingest(range(1, 7))
        api.advance(1.2)

        assert api.client.get("/queue").get_json()["state"] == "held"
        assert len(api.sent()) == 3
