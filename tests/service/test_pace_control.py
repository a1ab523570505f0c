"""Pausing, resuming, another interval."""

from functools import partial
from itertools import pairwise

import pytest

from ingest_service.domain.retry_policy import RetryPolicy
from ingest_service.errors import StorageUnavailable
from tests.restarts import Restarts
from tests.service.operating import (
    LATER,
    NO,
    UNKNOWN,
    pause,
    replies,
    resume,
    set_interval,
    told,
    words,
)
from tests.support import Api


@pytest.fixture(autouse=True)
def _longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every wait for another attempt be the longest that chance allows."""
    monkeypatch.setattr("ingest_service.app.RetryPolicy", partial(RetryPolicy, chance=lambda: 1.0))


class TestPause:
    """`POST /queue/pause` and `POST /queue/resume`."""

    def test_nothing_is_started_while_the_queue_is_paused(self, api: Api) -> None:
        """It takes effect at once, and resuming never bursts."""
        api.ingest(range(1, 10))
        api.advance(0.3)
        assert pause(api, "maintenance")["state"] == "paused"
        api.advance(60)
        assert api.sent() == []
        resumed = resume(api)
        api.advance(20)

        assert (resumed["state"], resumed["reason"]) == ("running", None)
        starts = [at for at, _ in api.sent()]
        assert 60.3 <= starts[0] <= 60.55
        assert [round(b - a, 3) for a, b in pairwise(starts)] == [5, 5]

    def test_the_batch_under_way_ends(self, api: Api) -> None:
        ingestion_id = api.ingest([1, 2, 3, 4])
        api.advance(0.5)
        pause(api)
        api.advance(30)
        assert words(api, ingestion_id) == ["triggered", "succeeded", "yet_to_start"]

    def test_a_short_pause_does_not_open_a_slot_earlier(self, api: Api) -> None:
        """The interval since the last start still counts."""
        api.ingest(range(1, 7))
        api.advance(1)
        pause(api)
        resume(api)
        api.advance(10)
        assert [at for at, _ in api.sent()] == [0.45, 5.45]

    def test_retries_that_were_due_meanwhile_do_not_burst(self, api: Api) -> None:
        api.upstream.reply = replies(LATER, LATER)
        api.ingest([1])
        api.ingest([2])
        api.advance(5.5)
        pause(api)
        api.advance(600)
        resume(api)
        api.advance(20)
        starts = [at for at, _ in api.sent()]
        assert all(b - a >= 5 - 1e-6 for a, b in pairwise(starts))
        assert len(starts) == 4

    def test_everybody_is_told(self, api: Api) -> None:
        """The queue, health and those who wait; nobody is given a time."""
        ingestion_id = api.ingest([1])
        pause(api, "the upstream is being maintained")
        queue = api.client.get("/queue").get_json()
        health = api.client.get("/health").get_json()
        found = api.status(ingestion_id)

        assert (queue["state"], queue["reason"], queue["until"]) == (
            "paused",
            "the upstream is being maintained",
            None,
        )
        assert (queue["next_slot_at"], queue["next"]) == (None, [])
        assert queue["depth"]["MEDIUM"]["items"] == 1
        assert (health["status"], health["queue"], health["reason"], health["until"]) == (
            "healthy",
            "paused",
            "the upstream is being maintained",
            None,
        )
        assert found["eta"] is None
        assert found["why_waiting"] == {
            "code": "paused",
            "message": "The queue is paused: the upstream is being maintained.",
            "until": None,
        }

    @pytest.mark.parametrize("body", [None, b"{}", b'{"reason":""}'], ids=repr)
    def test_a_reason_may_be_left_out(self, api: Api, body: bytes | None) -> None:
        ingestion_id = api.ingest([1])
        assert told(api.client.post("/queue/pause", data=body))["reason"] == ""
        message = api.status(ingestion_id)["why_waiting"]["message"]
        assert message == "The queue is paused: no reason given."

    def test_pausing_again_changes_the_reason(self, api: Api) -> None:
        pause(api, "one")
        assert pause(api, "two")["reason"] == "two"
        assert resume(api)["state"] == "running"
        assert resume(api)["state"] == "running"

    def test_work_is_taken_meanwhile(self, api: Api) -> None:
        pause(api)
        api.ingest([1])
        assert api.client.get("/health").get_json()["queued_items"] == 1

    @pytest.mark.parametrize("reason", ["", "maintenance", "yes no", "\u2028 ü '; --"])
    def test_it_survives_a_restart(self, lives: Restarts, reason: str) -> None:
        lives.api.ingest([1])
        pause(lives.api, reason)
        lives.crash(down=60)
        assert lives.api.client.get("/queue").get_json()["reason"] == reason
        lives.api.advance(60)
        assert lives.api.sent() == []
        resume(lives.api)
        lives.crash()
        assert lives.api.client.get("/queue").get_json()["state"] == "running"
        lives.api.advance(10)
        assert len(lives.api.sent()) == 1


class TestInterval:
    """`PATCH /queue`."""

    @pytest.mark.parametrize(
        ("seconds", "expected"), [(2, 2.45), (2.5, 2.9), (12, 12.45), (0.1, 1.45)]
    )
    def test_it_counts_from_the_last_start(self, api: Api, seconds: float, expected: float) -> None:
        """Faster or slower, from the next slot on; a batch under way is waited for."""
        api.ingest(range(1, 10))
        api.advance(1)
        assert set_interval(api, seconds)["interval_seconds"] == seconds
        api.advance(40)

        first, second, third = (at for at, _ in api.sent())
        assert first == 0.45
        assert expected <= second <= expected + 0.25
        assert third - second == pytest.approx(max(1, seconds), abs=0.001)

    def test_what_is_late_already_starts_at_once_and_alone(self, api: Api) -> None:
        api.ingest(range(1, 10))
        api.advance(4)
        set_interval(api, 1.5)
        api.advance(10)
        _, second, third = (at for at, _ in api.sent())
        assert 4 <= second <= 4.25
        assert third - second == pytest.approx(1.5)

    def test_it_survives_a_restart(self, lives: Restarts) -> None:
        lives.api.ingest(range(1, 10))
        set_interval(lives.api, 7.25)
        lives.crash()
        assert lives.api.client.get("/queue").get_json()["interval_seconds"] == 7.25
        lives.api.advance(40)
        assert [round(b - a, 3) for (a, _), (b, _) in pairwise(lives.api.sent())] == [7.25, 7.25]

    def test_a_change_after_a_restart_survives_the_next_one(self, lives: Restarts) -> None:
        """What it is compared with is the setting, not what was in effect."""
        set_interval(lives.api, 20)
        lives.crash()
        set_interval(lives.api, 30)
        lives.crash()
        assert lives.api.client.get("/queue").get_json()["interval_seconds"] == 30

    def test_the_setting_wins_once_it_is_changed(self, lives: Restarts) -> None:
        """Whoever edits it means it; whoever only restarts does not."""
        set_interval(lives.api, 7)
        shown = []
        for configured in (5.0, 3.0, 3.0, 5.0):
            lives.crash(interval=configured)
            shown.append(lives.api.client.get("/queue").get_json()["interval_seconds"])
        assert shown == [7, 3, 3, 5]

    def test_estimates_follow_at_once(self, api: Api) -> None:
        ingestion_id = api.ingest(range(1, 10))
        api.advance(1)
        set_interval(api, 10)
        assert api.status(ingestion_id)["eta"]["finish_at"] == "2026-01-01T12:00:21.450Z"


@pytest.mark.parametrize(
    ("method", "end"), [("POST", "/cancel"), ("PATCH", ""), ("POST", "/retry")]
)
def test_what_nobody_knows_cannot_be_changed(api: Api, method: str, end: str) -> None:
    answer = api.client.open(
        f"/ingestions/{UNKNOWN}{end}", method=method, json={"priority": "HIGH"}
    )
    assert answer.status_code == 404
    assert answer.get_json()["detail"] == "Ingestion ID not found"


@pytest.mark.embedded
def test_every_change_is_durable_before_it_is_answered(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So nothing changes while the journal cannot be written."""

    def broken(*_: object) -> None:
        raise StorageUnavailable("The journal cannot be written.")

    api.upstream.reply = replies(NO)
    failed = api.ingest([1])
    api.advance(2)
    ingestion_id = api.ingest([2], "LOW")
    api.client.post("/queue/pause", json={"reason": "so that there is something to resume"})
    everything = ("/queue", f"/status/{failed}", f"/status/{ingestion_id}", "/health")
    before = [api.client.get(path).data for path in everything]
    monkeypatch.setattr(api.parts.journal, "record", broken)
    for method, path, body in (
        ("POST", f"/ingestions/{ingestion_id}/cancel", None),
        ("PATCH", f"/ingestions/{ingestion_id}", {"priority": "HIGH"}),
        ("POST", f"/ingestions/{failed}/retry", None),
        ("POST", "/queue/pause", {"reason": "x"}),
        ("POST", "/queue/resume", None),
        ("PATCH", "/queue", {"interval_seconds": 1}),
    ):
        answer = api.client.open(path, method=method, json=body)
        assert (answer.status_code, answer.get_json()["type"]) == (
            503,
            "/problems/storage-unavailable",
        )
    assert [api.client.get(path).data for path in everything] == before
