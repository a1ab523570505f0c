"""Predictions against what then happens, for random histories and every policy."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingest_service.domain.items import Ids
from ingest_service.domain.model import Batch, Outcome, Priority
from ingest_service.domain.policy import Policy
from ingest_service.settings import Settings
from tests.restarts import restarting
from tests.support import Api, serving

PRIORITIES = st.sampled_from(Priority)
quarters = st.integers(0, 40).map(lambda n: n / 4)


def test_an_ingestion_that_was_moved_there_and_back_stands_in_line_once() -> None:
    """However often; those behind it are told the same as before."""
    with serving(Settings(), threaded=False) as api:
        api.ingest([1], "HIGH")
        moved, behind = api.ingest(range(2, 11), "LOW"), api.ingest([11], "LOW")
        before = api.status(behind)["queue"]
        for priority in (Priority.HIGH, Priority.LOW) * 5:
            api.parts.service.operator.move(moved, priority)

        assert api.status(behind)["queue"] == before == {"position": 3, "batches_ahead": 4}


@pytest.mark.parametrize("policy", Policy)
def test_whoever_changes_the_pace_changes_what_is_predicted(policy: Policy) -> None:
    """At once, under every policy, also if somebody has asked before."""
    with serving(Settings(interval=10, policy=policy.value), threaded=False) as api:
        service, ingestion_id = api.parts.service, api.ingest(range(1, 10), "LOW")

        def finish_at() -> datetime | None:
            found = service.queries.estimate(ingestion_id)
            assert found is not None
            return found.eta.finish_at

        before = finish_at()
        service.operator.set_interval(100)
        after = finish_at()
        service.operator.pause("")

        assert before is not None
        assert after is not None
        assert after - before == timedelta(seconds=180)
        assert finish_at() is None


@pytest.mark.parametrize("policy", Policy)
def test_no_slot_is_foretold_that_is_over(policy: Policy, tmp_path: Path) -> None:
    """Not even if nothing is started and nothing changes, as on a disk that takes no records."""
    with restarting(tmp_path / "journal", Settings(settle=0, policy=policy.value)) as lives:
        ingestion_id = lives.api.ingest([1])
        for _ in range(2):
            start_at = lives.api.status(ingestion_id)["eta"]["next_start_at"]
            assert datetime.fromisoformat(start_at) >= datetime.now(UTC)
            lives.pass_by(60)


@dataclass(frozen=True)
class Act:
    """Something that somebody does, `after` seconds after the act before."""

    after: float
    what: str
    which: int
    priority: Priority
    size: int


acts = st.lists(
    st.builds(
        Act,
        quarters,
        st.sampled_from(["submit", "submit", "submit", "cancel", "move", "pause", "retry"]),
        st.integers(0, 9),
        PRIORITIES,
        st.integers(1, 8),
    ),
    min_size=1,
    max_size=12,
)


def perform(api: Api, act: Act, known: list[str]) -> None:
    """Do it."""
    service = api.parts.service
    if act.what == "submit":
        ids = Ids(range(1, act.size + 1))
        known.append(service.submissions.accept(ids, act.priority).ingestion_id)
    elif act.what == "pause":
        service.operator.pause("")
        api.advance(act.size / 2)
        service.operator.resume()
    elif known:
        chosen = known[act.which % len(known)]
        if service.queries.estimate(chosen) is None:
            if act.what == "retry" and not service.queries.status(chosen, 0, 0).counts.cancelled:
                api.advance(0)
                service.operator.retry(chosen)
        elif act.what == "cancel":
            service.operator.cancel(chosen)
        elif act.what == "move":
            service.operator.move(chosen, act.priority)


@given(
    history=acts,
    failing=st.lists(st.sampled_from(["good", "good", "bad", "later", "hold"]), max_size=40),
    latency=quarters,
    concurrent=st.integers(1, 3),
    policy=st.sampled_from(Policy),
)
@hypothesis_settings(max_examples=80)
def test_with_no_later_change_a_prediction_comes_true(
    history: list[Act], failing: list[str], latency: float, concurrent: int, policy: Policy
) -> None:
    """Submissions, cancels, moves, pauses, retries, failures and holds; then the finish of all."""
    fates = iter(failing)
    settings = Settings(
        settle=0.5, max_concurrent_batches=concurrent, policy=policy.value, aged_after=15.0
    )

    def reply(batch: Batch) -> list[Outcome]:
        fate = next(fates, "good")
        good = Outcome(succeeded=True)
        bad = Outcome(
            succeeded=False,
            error="no",
            transient=fate in ("later", "hold"),
            retry_after=7.0 if fate == "hold" else None,
        )
        return [bad if fate != "good" and not place else good for place in batch.offsets]

    with serving(settings, threaded=False) as api:
        api.upstream.latency = latency
        api.upstream.reply = reply
        known: list[str] = []
        for act in history:
            api.advance(act.after)
            perform(api, act, known)
        # From here on nothing fails any more, once what is under way has ended.
        fates = iter(())
        api.advance(latency)
        predicted = {
            each: found.eta.finish_at
            for each in known
            if (found := api.parts.service.queries.estimate(each)) is not None
        }
        positions = sorted(
            found.eta.position
            for each in known
            if (found := api.parts.service.queries.estimate(each))
            and found.eta.position is not None
        )
        assert positions == list(range(1, len(positions) + 1))
        api.advance(2_000)
        for each, finish_at in predicted.items():
            snapshot = api.parts.service.queries.status(each, 0, 0)
            assert snapshot.finished_at is not None
            assert finish_at is not None
            assert abs((snapshot.finished_at - finish_at).total_seconds()) < 0.01
