"""What a queue takes, and when there will be room again."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingest_service.domain.model import Priority
from ingest_service.domain.policy import Policy
from ingest_service.settings import Settings
from tests.restarts import restarting
from tests.service.operating import NO, replies, retry
from tests.support import Api, serving

MAPPING = {"source": "s", "target": "t"}


@pytest.fixture
def settings() -> Settings:
    """Let three ingestions wait, in batches of one, without settling."""
    return Settings(max_ingestions=3, batch_size_ids=1, settle=0)


def refusal(api: Api, ids: list[int]) -> tuple[int, str, str]:
    """Post ids that are refused; return the code, the kind and when to come back."""
    answer = api.client.post("/ingest", json={"ids": ids, "priority": "LOW"})
    return answer.status_code, answer.get_json()["type"], answer.headers["Retry-After"]


def test_more_ingestions_than_may_wait_are_refused_until_the_first_has_gone(api: Api) -> None:
    """The first has two batches, so two slots have to open: now, and five seconds later."""
    api.ingest([1, 2], "HIGH")
    api.ingest([3])
    api.ingest([4])

    assert refusal(api, [5]) == (503, "/problems/queue-full", "5")
    api.advance(4.9)
    assert refusal(api, [5]) == (503, "/problems/queue-full", "1")
    api.advance(0.2)
    assert api.ingest([5])


def test_a_retry_of_what_waits_adds_no_ingestion(api: Api) -> None:
    """Its failed items join those that wait already; a finished one would be one more."""
    api.upstream.reply = replies(NO, NO)
    finished, waiting = api.ingest([1]), api.ingest([2, 3, 4])
    api.advance(7)
    api.ingest([5])
    api.ingest([6])

    assert retry(api, waiting)["retried_items"] == 1
    assert api.client.post(f"/ingestions/{finished}/retry").status_code == 503


def test_room_is_reckoned_with_how_long_a_batch_takes(api: Api) -> None:
    """A slot cannot open while the batch before it is under way."""
    api.upstream.latency = 12.0
    api.ingest([1, 2], "HIGH")
    api.ingest([3])
    api.ingest([4])
    api.advance(0)

    assert refusal(api, [5]) == (503, "/problems/queue-full", "12")


def test_a_dry_run_takes_no_room_from_a_request(api: Api) -> None:
    """However many ask, the last place is still there."""
    api.ingest([1])
    api.ingest([2])
    for _ in range(5):
        plan = api.client.post("/ingest?dry_run=true", json={"ids": [3], "priority": "LOW"})
        assert plan.status_code == 200
    assert api.ingest([3])


def test_after_a_start_without_an_end_a_whole_interval_is_waited(tmp_path: Path) -> None:
    """Nobody knows when its request went out; after a settled one it is the rest."""
    with restarting(tmp_path / "journal.sqlite3", Settings(settle=0)) as restarts:
        restarts.api.ingest(range(1, 7))
        restarts.api.advance(0.5)
        restarts.crash(down=2.0)
        restarts.api.advance(30)
        assert [at for at, _ in restarts.api.sent()] == [0, 7.5, 12.5]

        restarts.api.ingest(range(7, 13))
        restarts.api.advance(1.5)
        began = restarts.api.sent()[3][0]
        restarts.crash(down=2.0)
        restarts.api.advance(30)
        assert restarts.api.sent()[4][0] == began + 5


def test_with_too_little_room_on_the_disk_no_new_work_is_taken_and_old_work_goes_on(
    tmp_path: Path,
) -> None:
    """There is never as much as a billion gigabytes."""
    journal = str(tmp_path / "journal.sqlite3")
    with serving(Settings(journal=journal, settle=0), threaded=False) as api:
        ingestion_id = api.ingest([1])
        api.parts.close(0)
    scarce = replace(Settings(journal=journal, settle=0), min_free_disk=2**50)
    with serving(scarce, threaded=False) as api:
        answer = api.client.post("/ingest", json={"ids": [2], "priority": "LOW"})
        api.advance(20)

        assert (answer.status_code, answer.get_json()["type"]) == (
            503,
            "/problems/storage-unavailable",
        )
        assert api.status(ingestion_id)["outcome"] == "succeeded"
        api.parts.close(0)


def test_a_disk_that_is_nearly_full_shows_before_work_is_refused(tmp_path: Path) -> None:
    """To a load balancer and to people; whether the process lives is another question."""
    scarce = Settings(journal=str(tmp_path / "journal.sqlite3"), min_free_disk=2**50)
    with serving(scarce, threaded=True) as api:
        ready = api.client.get("/health/ready")
        health = api.client.get("/health").get_json()
        page = api.client.get("/dashboard").text
        lives = api.client.get("/health/live").status_code
        api.parts.close(0)
    reason = "The disk is nearly full."
    assert (ready.status_code, ready.get_json()["type"], ready.get_json()["detail"]) == (
        503,
        "/problems/storage-unavailable",
        reason,
    )
    assert (health["status"], health["trouble"], lives) == ("healthy", reason, 200)
    assert reason in page


@given(
    policy=st.sampled_from(Policy),
    concurrent=st.integers(1, 3),
    latency=st.sampled_from([0.5, 1.0, 7.0, 12.0]),
    bounds=st.sampled_from([(30, 1_000), (1_000, 4)]),
    requests=st.lists(
        st.tuples(
            st.sampled_from(Priority),
            st.integers(1, 12),
            st.booleans(),
            st.sampled_from([0.0, 0.0, 1.0, 5.0]),
        ),
        min_size=10,
        max_size=25,
    ),
)
@hypothesis_settings(max_examples=40)
def test_room_is_there_when_it_is_said_to_be_and_not_a_second_before(
    policy: Policy,
    concurrent: int,
    latency: float,
    bounds: tuple[int, int],
    requests: list[tuple[Priority, int, bool, float]],
) -> None:
    """Under every policy, in batches of three and of five."""
    settings = Settings(
        policy=policy.value,
        aged_after=20,
        max_concurrent_batches=concurrent,
        max_queued_items=bounds[0],
        max_ingestions=bounds[1],
    )
    with serving(settings, threaded=False) as api:
        api.upstream.latency = latency
        for priority, size, mapped, later in requests:
            numbers = range(1, size + 1)
            mappings = [MAPPING | {"id": str(number)} for number in numbers]
            items = {"mappings": mappings} if mapped else {"ids": list(numbers)}
            body = {"priority": priority.name} | items
            refused = api.client.post("/ingest", json=body)
            if refused.status_code == 503:
                break
            api.advance(later)
        else:
            return

        def is_refused() -> bool:
            return api.client.post("/ingest?dry_run=true", json=body).status_code == 503

        seconds = int(refused.headers["Retry-After"])
        api.advance(max(0, seconds - 1.001))
        assert is_refused() or seconds == 1
        api.advance(1.001)
        assert not is_refused()
