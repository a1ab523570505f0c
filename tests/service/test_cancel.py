"""Cancelling an ingestion."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from ingest_service.app import build
from ingest_service.domain.items import Ids
from ingest_service.domain.model import Batch, Outcome, Priority
from ingest_service.domain.retry_policy import RetryPolicy
from ingest_service.engines.embedded.journal import Cancelled, Change, Finished
from ingest_service.engines.embedded.state import KEEP_IN_MEMORY
from ingest_service.errors import Conflict
from ingest_service.settings import Settings
from ingest_service.upstreams.protocol import FinishedCall
from tests.meanwhile import Meanwhile, once_recorded
from tests.restarts import Restarts
from tests.service.operating import (
    FINE,
    LATER,
    NO,
    cancel,
    conflict,
    counts,
    replies,
    retry,
    words,
)
from tests.support import GUARD, Api
from tests.web.support import clock_time


@pytest.fixture(autouse=True)
def _longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every wait for another attempt be the longest that chance allows."""
    monkeypatch.setattr("ingest_service.app.RetryPolicy", partial(RetryPolicy, chance=lambda: 1.0))


class TestCancel:
    """`POST /ingestions/<id>/cancel`."""

    def test_what_has_not_started_never_does(self, api: Api) -> None:
        """The slot goes to whoever is next, as if it had never been there."""
        gone, other = api.ingest([1, 2, 3, 4], "HIGH"), api.ingest([5], "LOW")
        assert cancel(api, gone) == {
            "ingestion_id": gone,
            "status": "completed",
            "cancelled_items": 4,
            "in_flight_items": 0,
        }
        found = api.status(gone)
        api.advance(30)

        assert words(api, gone) == ["cancelled"] * 3
        assert (found["outcome"], found["progress"]) == ("cancelled", 100)
        assert (found["started_at"], found["finished_at"]) == (None, "2026-01-01T12:00:00.000Z")
        assert counts(api, gone) == {"cancelled": 4}
        assert api.results(gone)["complete"] is True
        assert api.results(gone)["results"] == []
        assert api.sent() == [(0.45, [5])]
        assert api.status(other)["status"] == "completed"

    def test_between_two_batches_the_rest_is_given_up_at_once(self, api: Api) -> None:
        """What is done stays done."""
        ingestion_id = api.ingest(range(1, 8))
        api.advance(3)
        answer = cancel(api, ingestion_id)
        found = api.status(ingestion_id)
        api.advance(30)

        assert (answer["status"], answer["cancelled_items"]) == ("completed", 4)
        assert words(api, ingestion_id) == ["cancelled", "succeeded", "cancelled", "cancelled"]
        assert found["finished_at"] == "2026-01-01T12:00:03.000Z"
        assert counts(api, ingestion_id) == {"succeeded": 3, "cancelled": 4}
        assert [each["id"] for each in api.results(ingestion_id)["results"]] == [1, 2, 3]
        assert len(api.sent()) == 1

    def test_the_batch_under_way_ends(self, api: Api) -> None:
        """It is finished when that one is."""
        ingestion_id = api.ingest([1, 2, 3, 4])
        api.advance(0.5)
        assert cancel(api, ingestion_id) == {
            "ingestion_id": ingestion_id,
            "status": "triggered",
            "cancelled_items": 1,
            "in_flight_items": 3,
        }
        assert words(api, ingestion_id) == ["triggered", "triggered", "cancelled"]
        assert counts(api, ingestion_id) == {"in_flight": 3, "cancelled": 1}
        api.advance(30)

        assert words(api, ingestion_id) == ["cancelled", "succeeded", "cancelled"]
        assert api.status(ingestion_id)["finished_at"] == "2026-01-01T12:00:01.450Z"
        assert counts(api, ingestion_id) == {"succeeded": 3, "cancelled": 1}
        assert len(api.sent()) == 1

    def test_what_fails_for_now_afterwards_is_cancelled_too(self, api: Api) -> None:
        """There will be no other attempt; what failed for good, failed."""
        api.upstream.reply = replies([FINE, LATER, NO])
        ingestion_id = api.ingest([1, 2, 3])
        api.advance(0.5)
        cancel(api, ingestion_id)
        api.advance(60)

        assert counts(api, ingestion_id) == {"succeeded": 1, "failed": 1, "cancelled": 1}
        assert words(api, ingestion_id) == ["cancelled", "cancelled"]
        assert len(api.sent()) == 1

    def test_what_waits_for_another_attempt_is_given_up(self, api: Api) -> None:
        """Whether its time has come or not."""
        api.upstream.reply = replies([FINE, LATER, LATER])
        ingestion_id = api.ingest([1, 2, 3])
        api.advance(2)
        answer = cancel(api, ingestion_id)
        api.advance(60)

        assert (answer["status"], answer["cancelled_items"]) == ("completed", 2)
        assert counts(api, ingestion_id) == {"succeeded": 1, "cancelled": 2}
        assert len(api.sent()) == 1

    def test_the_words_for_mappings_are_those_of_their_clients(self, api: Api) -> None:
        request_id = api.ingest_mappings(6)
        api.advance(0.5)
        answer = cancel(api, request_id)
        during = api.status(request_id)
        api.advance(5)
        after = api.status(request_id)

        assert answer == {
            "request_id": request_id,
            "status": "in_progress",
            "cancelled_items": 1,
            "in_flight_items": 5,
        }
        assert [each["status"] for each in during["batches"]] == [
            "in_progress",
            "failed",
        ]
        assert (after["status"], after["processed_mappings"], after["failed_mappings"]) == (
            "failed",
            5,
            0,
        )

    def test_doing_it_again_changes_nothing(self, api: Api) -> None:
        """At once, when it has ended, and when it has left the memory."""
        ingestion_id = api.ingest([1, 2, 3, 4])
        first = cancel(api, ingestion_id)
        finished_at = api.status(ingestion_id)["finished_at"]
        for seconds in (0, 10, KEEP_IN_MEMORY.total_seconds()):
            api.advance(seconds)
            api.ingest([9])
            api.advance(20)
            assert cancel(api, ingestion_id) == first
        assert api.status(ingestion_id)["finished_at"] == finished_at

    @pytest.mark.embedded
    def test_two_at_once_have_one_effect(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both are told the same, and it is recorded once."""
        recorded: list[object] = []
        record = api.parts.journal.record

        def count(*changes: Change) -> None:
            recorded.extend(change for change in changes if isinstance(change, Cancelled))
            record(*changes)

        monkeypatch.setattr(api.parts.journal, "record", count)
        ingestion_id, start = api.ingest([1, 2, 3, 4]), threading.Barrier(8)
        app = api.client.application

        def ask(_: int) -> bytes:
            client = app.test_client()
            start.wait()
            return bytes(client.post(f"/ingestions/{ingestion_id}/cancel").data)

        with ThreadPoolExecutor(8) as pool:
            answers = set(pool.map(ask, range(8)))
        assert (len(answers), len(recorded)) == (1, 1)
        assert counts(api, ingestion_id) == {"cancelled": 4}

    @pytest.mark.parametrize(
        ("outcome", "word"), [(FINE, "succeeded"), (NO, "failed")], ids=["fine", "failed"]
    )
    def test_what_is_finished_cannot_be_cancelled(
        self, api: Api, outcome: Outcome, word: str
    ) -> None:
        """Neither just after nor much later."""
        api.upstream.reply = lambda _: [outcome]
        ingestion_id = api.ingest([1])
        api.advance(2)
        for _ in range(2):
            answer = api.client.post(f"/ingestions/{ingestion_id}/cancel")
            assert conflict(answer) == f"It is finished: {word}."
            api.advance(KEEP_IN_MEMORY.total_seconds())
            api.ingest([2])
            api.advance(10)
        assert api.status(ingestion_id)["outcome"] == word

    def test_its_room_in_the_queue_is_free_at_once(self, api: Api) -> None:
        ingestion_id = api.ingest(range(1, 8))
        api.advance(0.5)
        cancel(api, ingestion_id)
        health = api.client.get("/health").get_json()
        assert (health["queued_items"], health["active_requests"]) == (0, 1)

    def test_it_survives_a_restart(self, lives: Restarts) -> None:
        """Unsent batches stay cancelled, finished or not."""
        never, running = lives.api.ingest([1, 2, 3, 4]), lives.api.ingest(range(5, 12))
        cancel(lives.api, never)
        lives.api.advance(2)
        answer = cancel(lives.api, running)
        lives.crash(down=3)

        assert counts(lives.api, never) == {"cancelled": 4}
        assert counts(lives.api, running) == {"succeeded": 3, "cancelled": 4}
        assert cancel(lives.api, running) == answer
        lives.api.advance(60)
        assert lives.api.sent() == [(0.45, [5, 6, 7])]
        assert words(lives.api, running) == ["cancelled", "succeeded", "cancelled", "cancelled"]

    def test_a_batch_under_way_at_the_crash_is_sent_again_and_nothing_else(
        self, lives: Restarts
    ) -> None:
        """Nobody knows how it ended."""
        ingestion_id = lives.api.ingest(range(1, 8))
        lives.api.advance(0.5)
        cancel(lives.api, ingestion_id)
        lives.crash(down=1)
        assert cancel(lives.api, ingestion_id) == {
            "ingestion_id": ingestion_id,
            "status": "triggered",
            "cancelled_items": 4,
            "in_flight_items": 3,
        }
        lives.api.advance(60)

        assert [items for _, items in lives.api.sent()] == [[1, 2, 3], [1, 2, 3]]
        assert counts(lives.api, ingestion_id) == {"succeeded": 3, "cancelled": 4}
        assert lives.api.status(ingestion_id)["outcome"] == "cancelled"

    def test_what_waited_for_another_attempt_stays_cancelled_over_a_restart(
        self, lives: Restarts
    ) -> None:
        lives.api.upstream.reply = replies([FINE, LATER, NO])
        ingestion_id = lives.api.ingest([1, 2, 3])
        lives.api.advance(2)
        cancel(lives.api, ingestion_id)
        lives.crash()
        lives.api.advance(60)

        assert counts(lives.api, ingestion_id) == {"succeeded": 1, "failed": 1, "cancelled": 1}
        assert len(lives.api.sent()) == 1

    def test_what_is_under_way_at_the_crash_is_not_finished_after_it(self, lives: Restarts) -> None:
        """Neither in its status nor in the list, until that has ended; then both say so."""
        ingestion_id = lives.api.ingest([1, 2, 3, 4])
        lives.api.advance(0.5)
        cancel(lives.api, ingestion_id)
        lives.crash(down=1)
        for _ in range(2):
            found = lives.api.status(ingestion_id)
            assert (found["status"], found["finished_at"]) == ("triggered", None)
            assert lives.api.client.get("/health").get_json()["active_requests"] == 1
            lives.crash()
        lives.api.advance(60)

        found = lives.api.status(ingestion_id)
        assert (found["outcome"], found["finished_at"]) == ("cancelled", clock_time(7.5))
        assert lives.api.client.get("/health").get_json()["active_requests"] == 0


class TestCancelAndTheEndAtOnce:
    """Its last batch ends at the very moment at which it is cancelled: one of them is first."""

    def test_a_cancellation_that_comes_first_counts_and_leaves_nothing_behind(
        self, lives: Restarts
    ) -> None:
        """Nothing was left to give up, so what has failed can be tried again, over a restart."""
        lives.api.upstream.reply = replies(NO)
        ingestion_id = lives.api.ingest([1])
        lives.api.advance(0.5)
        ending = Meanwhile(lambda: lives.api.advance(2))
        once_recorded(lives.api.parts.journal, Cancelled, ending.begin)
        answer = lives.api.client.post(f"/ingestions/{ingestion_id}/cancel")
        ending.end()
        assert lives.api.status(ingestion_id)["outcome"] == "failed"
        assert retry(lives.api, ingestion_id)["retried_items"] == 1
        lives.crash()
        lives.api.advance(20)

        assert lives.api.status(ingestion_id)["outcome"] == "succeeded"
        assert [items for _, items in lives.api.sent()] == [[1], [1]]
        assert answer.status_code == 200

    def test_a_cancellation_that_comes_second_is_refused_and_leaves_nothing_behind(
        self, lives: Restarts
    ) -> None:
        """It waits for the end to be in effect; then there is nothing to be given up."""
        lives.api.upstream.reply = replies(NO)
        client, ingestion_id = lives.api.client, lives.api.ingest([1])
        answers: list[TestResponse] = []
        late = Meanwhile(
            lambda: answers.append(client.post(f"/ingestions/{ingestion_id}/cancel")),
        )
        once_recorded(lives.api.parts.journal, Finished, late.begin)
        lives.api.advance(2)
        late.end()
        assert conflict(answers[0]) == "It is finished: failed."
        assert retry(lives.api, ingestion_id)["retried_items"] == 1
        lives.crash()
        lives.api.advance(20)

        assert lives.api.status(ingestion_id)["outcome"] == "succeeded"

    @pytest.mark.parametrize("seconds", [0.0, KEEP_IN_MEMORY.total_seconds() + 10], ids=repr)
    def test_what_ended_by_itself_after_all_can_be_tried_again(
        self, api: Api, seconds: float
    ) -> None:
        """Soon and later: its end is called failed, not cancelled."""
        api.upstream.reply = replies(NO)
        ingestion_id = api.ingest([1])
        api.advance(0.5)
        cancel(api, ingestion_id)
        while_it_runs = api.client.post(f"/ingestions/{ingestion_id}/retry")
        api.advance(2 + seconds)
        assert api.status(ingestion_id)["outcome"] == "failed"
        assert retry(api, ingestion_id)["retried_items"] == 1
        api.advance(20)

        assert conflict(while_it_runs) == "A cancelled ingestion is not tried again."
        assert api.status(ingestion_id)["outcome"] == "succeeded"


class Eager:
    """An upstream that is done at once and remembers what it was sent."""

    latency: float | None = 0.0

    def __init__(self) -> None:
        self.sent: dict[str, int] = {}

    def trouble(self) -> str | None:
        return None

    def start(self, batch: Batch, on_end: Callable[[], None]) -> FinishedCall:
        self.sent[batch.ingestion_id] = self.sent.get(batch.ingestion_id, 0) + len(batch.items)
        return FinishedCall([FINE] * len(batch.items))


@pytest.mark.parametrize("journal", ["memory", "journal.sqlite3"])
def test_a_thousand_cancellations_against_the_thread_cancel_what_they_say_and_no_less(
    tmp_path: Path, journal: str
) -> None:
    """Nothing is left to be started when a cancellation is answered, and nothing is.

    So exactly the items that an answer does not call cancelled are sent.
    """
    upstream = Eager()
    where = journal if journal == "memory" else str(tmp_path / journal)
    parts = build(Settings(interval=0, settle=0, journal=where), upstream=upstream)
    parts.worker.start()
    service, told, left = parts.service, {}, 0
    for _ in range(500):
        ingestion_id = service.submissions.accept(Ids(range(1, 13)), Priority.LOW).ingestion_id
        try:
            service.operator.cancel(ingestion_id)
        except Conflict:
            continue
        found = service.queries.status(ingestion_id, 0, 0).counts
        told[ingestion_id] = found.cancelled
        left += found.queued
    parts.close(GUARD)

    assert left == 0
    assert {each: 12 - upstream.sent.get(each, 0) for each in told} == told
    assert any(told.values())
