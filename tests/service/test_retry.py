"""Trying again what has failed."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from flask.testing import FlaskClient
from freezegun import freeze_time

from ingest_service.domain.retry_policy import RetryPolicy
from ingest_service.engines.embedded.journal import Reopened
from ingest_service.engines.embedded.state import KEEP_IN_MEMORY
from ingest_service.errors import StorageUnavailable
from ingest_service.settings import Settings
from tests.meanwhile import once_recorded, refuse_records
from tests.restarts import Restarts
from tests.service.operating import FINE, LATER, NO, cancel, conflict, counts, replies, retry
from tests.support import Api, serving


@pytest.fixture(autouse=True)
def _longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every wait for another attempt be the longest that chance allows."""
    monkeypatch.setattr("ingest_service.app.RetryPolicy", partial(RetryPolicy, chance=lambda: 1.0))


class TestRetry:
    """`POST /ingestions/<id>/retry`."""

    def test_what_has_failed_is_sent_once_more_and_nothing_else(self, api: Api) -> None:
        """With new attempts; what became of it replaces what was."""
        api.upstream.reply = replies([FINE, NO, NO], [NO], [FINE, NO])
        ingestion_id = api.ingest([1, 2, 3, 4])
        api.advance(10)
        assert api.status(ingestion_id)["outcome"] == "partially_failed"
        assert retry(api, ingestion_id) == {
            "ingestion_id": ingestion_id,
            "status": "triggered",
            "retried_items": 3,
            "counts": {
                "total": 4,
                "queued": 3,
                "in_flight": 0,
                "succeeded": 1,
                "failed": 0,
                "cancelled": 0,
            },
        }
        found = api.status(ingestion_id)
        assert (found["finished_at"], found["outcome"], found["progress"]) == (None, None, 25)
        assert [batch["status"] for batch in found["batches"]] == ["triggered", "triggered"]
        assert [each["id"] for each in api.results(ingestion_id)["results"]] == [1]
        api.advance(20)

        assert [items for _, items in api.sent()] == [[1, 2, 3], [4], [2, 3], [4]]
        assert [batch.attempt for _, batch in api.upstream.starts] == [1, 1, 1, 1]
        results = api.results(ingestion_id)["results"]
        assert [(each["id"], each["status"]) for each in results] == [
            (1, "success"),
            (2, "success"),
            (3, "failed"),
            (4, "success"),
        ]
        assert results[1]["timestamp"] == "2026-01-01T12:00:11.450Z"
        assert api.status(ingestion_id)["outcome"] == "partially_failed"

    def test_it_can_be_repeated_until_nothing_is_left(self, api: Api) -> None:
        api.upstream.reply = replies(NO, [NO, FINE, NO], [FINE, NO])
        ingestion_id = api.ingest([1, 2, 3])
        taken = []
        for _ in range(5):
            api.advance(10)
            taken.append(retry(api, ingestion_id)["retried_items"])

        assert taken == [3, 2, 1, 0, 0]
        assert [items for _, items in api.sent()] == [[1, 2, 3], [1, 2, 3], [1, 3], [3]]
        assert api.status(ingestion_id)["outcome"] == "succeeded"

    def test_failed_attempts_are_counted_anew(self, api: Api) -> None:
        """Five again, with the waits in between."""
        api.upstream.reply = lambda batch: [LATER] * len(batch.items)
        ingestion_id = api.ingest([1])
        api.advance(100)
        retry(api, ingestion_id)
        api.advance(100)

        assert [batch.attempt for _, batch in api.upstream.starts] == [*range(1, 6)] * 2
        assert api.results(ingestion_id)["results"][0]["attempts"] == 5

    def test_it_takes_its_old_place_in_the_line(self, api: Api) -> None:
        """Before what came after it."""
        api.upstream.reply = replies(NO)
        ingestion_id = api.ingest([1], "LOW")
        api.advance(2)
        api.ingest([2], "LOW")
        api.ingest([3], "MEDIUM")
        retry(api, ingestion_id)
        api.advance(60)
        assert [items for _, items in api.sent()] == [[1], [3], [1], [2]]

    def test_a_running_ingestion_is_tried_again_as_far_as_it_has_come(self, api: Api) -> None:
        """The batch under way is left alone."""
        api.upstream.reply = replies([FINE, NO, FINE], NO)
        ingestion_id = api.ingest(range(1, 8))
        api.advance(5.5)
        answer = retry(api, ingestion_id)
        api.advance(60)

        assert answer["retried_items"] == 1
        assert answer["counts"]["in_flight"] == 3
        assert [items for _, items in api.sent()] == [[1, 2, 3], [4, 5, 6], [2], [7]]
        assert counts(api, ingestion_id) == {"succeeded": 4, "failed": 3}

    def test_one_that_has_left_the_memory_comes_back(self, api: Api) -> None:
        api.upstream.reply = replies([FINE, NO])
        ingestion_id = api.ingest([1, 2])
        api.advance(KEEP_IN_MEMORY.total_seconds() + 10)
        api.ingest([9])
        api.advance(10)
        assert retry(api, ingestion_id)["retried_items"] == 1
        assert api.client.get("/health").get_json()["active_requests"] == 1
        api.advance(10)

        assert api.status(ingestion_id)["outcome"] == "succeeded"
        assert [items for _, items in api.sent()] == [[1, 2], [9], [2]]

    def test_one_that_only_the_journal_knows_comes_back(self, lives: Restarts) -> None:
        """And what it was told survives the next crash too."""
        lives.api.upstream.reply = replies([FINE, NO, FINE], [NO])
        ingestion_id = lives.api.ingest([1, 2, 3, 4])
        lives.api.advance(10)
        lives.crash()
        answer = retry(lives.api, ingestion_id)
        assert (answer["status"], answer["retried_items"]) == ("triggered", 2)
        lives.crash()
        found = lives.api.status(ingestion_id)
        assert (found["status"], found["finished_at"]) == ("triggered", None)
        assert counts(lives.api, ingestion_id) == {"succeeded": 2, "queued": 2}
        lives.api.advance(20)

        assert [items for _, items in lives.api.sent()] == [[1, 2, 3], [4], [2], [4]]
        lives.crash()
        found = lives.api.status(ingestion_id)
        assert (found["outcome"], found["started_at"]) == ("succeeded", "2026-01-01T12:00:00.450Z")
        assert [each["status"] for each in lives.api.results(ingestion_id)["results"]] == (
            ["success"] * 4
        )

    def test_a_retried_one_can_be_cancelled(self, api: Api) -> None:
        api.upstream.reply = replies([FINE, NO])
        ingestion_id = api.ingest([1, 2])
        api.advance(10)
        retry(api, ingestion_id)
        cancel(api, ingestion_id)
        api.advance(10)
        assert counts(api, ingestion_id) == {"succeeded": 1, "cancelled": 1}
        assert len(api.sent()) == 1

    def test_where_nothing_has_failed_nothing_is_done(self, api: Api) -> None:
        """Before, while and after it runs."""
        ingestion_id = api.ingest([1, 2, 3, 4])
        for seconds in (0, 0.5, 3, 10):
            api.advance(seconds)
            before = api.client.get(f"/status/{ingestion_id}").data
            assert retry(api, ingestion_id)["retried_items"] == 0
            assert api.client.get(f"/status/{ingestion_id}").data == before
        assert len(api.sent()) == 2

    def test_what_was_cancelled_stays_cancelled(self, api: Api) -> None:
        """Also what failed before it was."""
        api.upstream.reply = replies(NO)
        ingestion_id = api.ingest([1, 2, 3, 4])
        api.advance(2)
        cancel(api, ingestion_id)
        answer = api.client.post(f"/ingestions/{ingestion_id}/retry")
        assert conflict(answer) == "A cancelled ingestion is not tried again."


class TestRetryWithAFullQueue:
    """A queue that takes four items."""

    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(max_queued_items=4)

    def test_there_must_be_room_for_what_is_tried_again(self, api: Api) -> None:
        """Otherwise nothing changes, and it is told when there will be."""
        api.upstream.reply = replies(NO)
        ingestion_id = api.ingest([1, 2])
        api.advance(2)
        api.ingest([3, 4, 5])
        refused = api.client.post(f"/ingestions/{ingestion_id}/retry")
        seconds = int(refused.headers["Retry-After"])
        failed = api.status(ingestion_id)["outcome"]
        api.advance(seconds)

        assert (refused.status_code, refused.get_json()["type"]) == (503, "/problems/queue-full")
        assert (seconds, failed) == (4, "failed")
        assert retry(api, ingestion_id)["retried_items"] == 2
        assert api.client.get("/health").get_json()["queued_items"] == 2
        api.advance(60)
        assert api.client.get("/health").get_json()["queued_items"] == 0


class TestRetention:
    """What is older than its retention."""

    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(retention=3_600)

    @pytest.mark.parametrize("forgotten", [False, True], ids=["there", "forgotten"])
    @pytest.mark.parametrize("journal", ["memory", "journal.sqlite3"])
    def test_what_is_not_shown_any_more_cannot_be_changed_either(
        self, tmp_path: Path, settings: Settings, journal: str, forgotten: bool
    ) -> None:
        """Whether anybody has come round to forget it or not."""
        where = journal if journal == "memory" else str(tmp_path / journal)
        with serving(replace(settings, journal=where), threaded=False) as api:
            api.upstream.reply = replies(NO)
            ingestion_id = api.ingest([1])
            api.advance(2)
            with freeze_time("2026-01-01T13:00:02Z"):
                if forgotten:
                    api.parts.worker.step()
                answers = [
                    api.client.open(path, method=method, json=body)
                    for method, path, body in (
                        ("GET", f"/status/{ingestion_id}", None),
                        ("POST", f"/ingestions/{ingestion_id}/retry", None),
                        ("POST", f"/ingestions/{ingestion_id}/cancel", None),
                        ("PATCH", f"/ingestions/{ingestion_id}", {"priority": "HIGH"}),
                    )
                ]
            api.parts.journal.close()
        assert [answer.status_code for answer in answers] == [404] * 4


class TestWhileItIsRecorded:
    """What others see of a finished ingestion that is being opened again."""

    @pytest.fixture
    def failed(self, lives: Restarts) -> str:
        """Give an ingestion that has failed and that only the journal knows."""
        lives.api.upstream.reply = replies([FINE, NO])
        ingestion_id = lives.api.ingest([1, 2])
        lives.api.advance(10)
        lives.crash()
        return ingestion_id

    def test_it_is_found_and_listed_all_the_time(self, lives: Restarts, failed: str) -> None:
        """As it was, until it is as it will be."""
        client, seen = lives.api.client, []

        def look() -> None:
            listed = client.get("/ingestions").get_json()["ingestions"]
            results = client.get(f"/status/{failed}/results").get_json()
            seen.append(
                (
                    client.get(f"/status/{failed}").status_code,
                    [each["ingestion_id"] for each in listed],
                    [each["ingestion_id"] for each in picked(client, outcome=PARTLY)],
                    (len(results["results"]), results["complete"]),
                    client.get("/health").get_json()["active_requests"],
                )
            )

        once_recorded(lives.api.parts.journal, Reopened, look)
        retry(lives.api, failed)
        look()
        assert seen == [(200, [failed], [failed], (2, True), 0), (200, [failed], [], (1, False), 1)]

    def test_a_record_that_fails_changes_nothing(self, lives: Restarts, failed: str) -> None:
        client = lives.api.client
        before = client.get(f"/status/{failed}").data
        heal = refuse_records(lives.api.parts.journal, Reopened, StorageUnavailable("Full."))
        assert client.post(f"/ingestions/{failed}/retry").status_code == 503
        assert client.get(f"/status/{failed}").data == before
        assert client.get("/health").get_json()["active_requests"] == 0
        assert [each["ingestion_id"] for each in picked(client, outcome=PARTLY)] == [failed]
        heal()
        assert retry(lives.api, failed)["retried_items"] == 1

    @pytest.mark.parametrize("method", ["find", "item_states", "finished"])
    def test_whoever_asks_the_journal_just_then_is_not_told_that_it_is_gone(
        self, lives: Restarts, failed: str, method: str
    ) -> None:
        """Memory did not know it yet when it was asked, and the journal does not any more."""
        client, journal = lives.api.client, lives.api.parts.journal
        ask, left = getattr(journal, method), [failed]

        def asking(*args: Any) -> Any:
            if left:
                retry(lives.api, left.pop())
            return ask(*args)

        setattr(journal, method, asking)
        path, shown = {
            "find": (f"/status/{failed}", failed),
            "item_states": (f"/status/{failed}/results", '"id":1,'),
            "finished": ("/ingestions", failed),
        }[method]
        answer = client.get(path)
        assert (answer.status_code, left) == (200, [])
        assert shown in answer.text


PARTLY = "partially_failed"


def picked(client: FlaskClient, **query: str) -> list[dict[str, Any]]:
    """Return the ingestions that a list shows."""
    answer = client.get("/ingestions", query_string=query)
    return cast(list[dict[str, Any]], answer.get_json()["ingestions"])
