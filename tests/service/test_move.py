"""Giving an ingestion another class."""

from functools import partial
from typing import Any

import pytest

from ingest_service.domain.retry_policy import RetryPolicy
from ingest_service.settings import Settings
from tests.restarts import Restarts
from tests.service.operating import LATER, cancel, conflict, move, replies, told
from tests.support import Api, serving


@pytest.fixture(autouse=True)
def _longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every wait for another attempt be the longest that chance allows."""
    monkeypatch.setattr("ingest_service.app.RetryPolicy", partial(RetryPolicy, chance=lambda: 1.0))


class TestMove:
    """`PATCH /ingestions/<id>`."""

    def test_the_rest_goes_where_its_new_class_goes(self, api: Api) -> None:
        """Also in the middle of it, up and down."""
        low, high = api.ingest(range(1, 10), "LOW"), api.ingest(range(11, 20), "HIGH")
        api.advance(2)
        move(api, low, "HIGH")
        api.advance(5)
        move(api, low, "LOW")
        move(api, high, "MEDIUM")
        api.advance(60)

        # It came first, so it goes first in its class.
        assert [items[0] for _, items in api.sent()] == [11, 1, 14, 17, 4, 7]
        assert api.status(low)["priority"] == "LOW"
        assert api.status(high)["priority"] == "MEDIUM"

    def test_the_answer_tells_the_old_and_the_new_estimate(self, api: Api) -> None:
        for first in (1, 11, 21):
            api.ingest(range(first, first + 6), "MEDIUM")
        ingestion_id = api.ingest([91, 92, 93, 94], "LOW")

        assert move(api, ingestion_id, "HIGH") == {
            "ingestion_id": ingestion_id,
            "status": "yet_to_start",
            "priority": "HIGH",
            "old": {
                "priority": "LOW",
                "eta": {
                    "next_start_at": "2026-01-01T12:00:30.450Z",
                    "finish_at": "2026-01-01T12:00:36.450Z",
                    "latest_finish_at": None,
                },
            },
            "new": {
                "priority": "HIGH",
                "eta": {
                    "next_start_at": "2026-01-01T12:00:00.450Z",
                    "finish_at": "2026-01-01T12:00:06.450Z",
                    "latest_finish_at": None,
                },
            },
            "delayed_ingestions": 3,
            "longest_delay_seconds": 10.0,
        }
        assert api.status(ingestion_id)["queue"] == {"position": 1, "batches_ahead": 0}

    @pytest.mark.parametrize("priority", ["HIGH", "MEDIUM", "LOW"])
    def test_the_new_estimate_is_what_happens(self, api: Api, priority: str) -> None:
        """From the middle of the line to each of its parts."""
        for first, each in enumerate(("HIGH", "MEDIUM", "LOW", "HIGH", "MEDIUM", "LOW")):
            ids = range(first * 10 + 1, first * 10 + 8)
            found = api.ingest(ids, each)
            if first == 4:
                ingestion_id = found
        api.advance(7)
        eta = move(api, ingestion_id, priority)["new"]["eta"]
        api.advance(200)

        found_status = api.status(ingestion_id)
        assert found_status["started_at"] == eta["next_start_at"]
        assert found_status["finished_at"] == eta["finish_at"]

    def test_those_that_end_later_are_counted(self, api: Api) -> None:
        """By comparing all their estimates before and after."""
        ids = [
            api.ingest(range(first * 10 + 1, first * 10 + 1 + size), priority)
            for first, (size, priority) in enumerate(
                [(7, "HIGH"), (4, "MEDIUM"), (1, "LOW"), (9, "MEDIUM"), (3, "LOW"), (8, "LOW")]
            )
        ]
        api.advance(0.5)

        def ends() -> list[float]:
            found = [api.status(each)["eta"]["finish_at"] for each in ids]
            return [float(each[14:16]) * 60 + float(each[17:23]) for each in found]

        for moved, priority in ((4, "HIGH"), (0, "LOW"), (5, "MEDIUM"), (3, "LOW")):
            before = ends()
            answer = move(api, ids[moved], priority)
            late = [
                after - sooner
                for at, (sooner, after) in enumerate(zip(before, ends(), strict=True))
                if at != moved and after > sooner + 1e-6
            ]
            assert answer["delayed_ingestions"] == len(late)
            assert answer["longest_delay_seconds"] == pytest.approx(max(late, default=0))

    def test_the_same_class_again_changes_nothing(self, api: Api) -> None:
        """Nobody waits longer, and who follows it hears nothing."""
        api.ingest([1], "LOW")
        ingestion_id = api.ingest([2], "LOW")
        before = api.client.get(f"/status/{ingestion_id}")
        answer = move(api, ingestion_id, "LOW")
        after = api.client.get(f"/status/{ingestion_id}")

        assert answer["old"] == answer["new"]
        assert (answer["delayed_ingestions"], answer["longest_delay_seconds"]) == (0, 0.0)
        assert after.headers["ETag"] == before.headers["ETag"]

    def test_there_and_back_again_is_as_if_nothing_had_happened(self, api: Api) -> None:
        """However often, for itself and for those behind it."""
        first = api.ingest(range(1, 7), "LOW")
        second = api.ingest([11], "LOW")
        before = [api.status(each) for each in (first, second)], api.client.get("/queue").get_json()
        for priority in ("HIGH", "LOW", "MEDIUM", "HIGH", "LOW"):
            move(api, first, priority)
        after = [api.status(each) for each in (first, second)], api.client.get("/queue").get_json()
        api.advance(60)

        assert after == before
        assert api.sent() == [(0.45, [1, 2, 3]), (5.45, [4, 5, 6]), (10.45, [11])]

    def test_what_is_finished_has_no_class_to_change(self, api: Api) -> None:
        done, gone = api.ingest([1]), api.ingest([2])
        cancel(api, gone)
        api.advance(10)
        for ingestion_id, outcome in ((done, "succeeded"), (gone, "cancelled")):
            answer = api.client.patch(f"/ingestions/{ingestion_id}", json={"priority": "HIGH"})
            assert conflict(answer) == f"It is finished: {outcome}."
            assert api.status(ingestion_id)["priority"] == "MEDIUM"

    def test_a_retry_that_is_due_later_comes_back_in_the_new_class(self, api: Api) -> None:
        api.upstream.reply = replies(LATER)
        moved = api.ingest([1], "LOW")
        api.advance(1.5)
        api.ingest([2], "MEDIUM")
        move(api, moved, "HIGH")
        api.advance(60)
        assert api.sent() == [(0.45, [1]), (5.45, [1]), (10.45, [2])]

    def test_it_survives_a_restart(self, lives: Restarts) -> None:
        ids = [lives.api.ingest([item], "LOW") for item in (1, 2)]
        move(lives.api, ids[1], "HIGH")
        lives.crash()
        assert lives.api.status(ids[1])["priority"] == "HIGH"
        lives.api.advance(60)
        assert [items for _, items in lives.api.sent()] == [[2], [1]]


class TestDryRun:
    """`PATCH /ingestions/<id>?dry_run=true`."""

    @pytest.mark.parametrize("policy", ["strict", "aged", "weighted"])
    def test_it_tells_what_then_happens_and_changes_nothing(self, policy: str) -> None:
        """For everybody who waits, in every class there is."""
        settings = Settings(policy=policy, aged_after=20)
        with serving(settings, threaded=False) as api:
            api.upstream.reply = replies(LATER)
            ids = [
                api.ingest(range(first * 10 + 1, first * 10 + 1 + size), priority)
                for first, (size, priority) in enumerate(
                    [(7, "HIGH"), (4, "MEDIUM"), (1, "LOW"), (9, "MEDIUM"), (3, "LOW")]
                )
            ]
            api.advance(1.5)
            for ingestion_id in ids:
                for priority in ("HIGH", "MEDIUM", "LOW"):
                    before = [api.client.get(f"/status/{each}").data for each in ids]
                    told_before = foresee(api, ingestion_id, priority)
                    assert [api.client.get(f"/status/{each}").data for each in ids] == before

                    effect = move(api, ingestion_id, priority)
                    for eta in (told_before["new"]["eta"], effect["new"]["eta"]):
                        # A dry run does not look that far ahead.
                        eta["latest_finish_at"] = None
                    assert told_before.pop("priority") == effect["old"]["priority"]
                    assert effect.pop("priority") == priority
                    assert told_before == effect

    def test_nothing_is_kept_of_it(self, lives: Restarts) -> None:
        """Neither now, nor after a restart, nor in the order of what is sent."""
        first, second = (lives.api.ingest([item], "LOW") for item in (1, 2))
        foresee(lives.api, second, "HIGH")
        lives.crash()
        assert lives.api.status(second)["priority"] == "LOW"
        lives.api.advance(60)
        assert [items for _, items in lives.api.sent()] == [[1], [2]]
        assert first != second

    def test_what_is_finished_has_no_class_to_change(self, api: Api) -> None:
        done = api.ingest([1])
        api.advance(10)
        answer = api.client.patch(f"/ingestions/{done}?dry_run=true", json={"priority": "HIGH"})
        assert conflict(answer) == "It is finished: succeeded."


def foresee(api: Api, ingestion_id: str, priority: str) -> dict[str, Any]:
    """Ask what another class would do; return that."""
    path = f"/ingestions/{ingestion_id}?dry_run=true"
    return told(api.client.patch(path, json={"priority": priority}))
