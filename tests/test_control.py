"""What an operator changes: single ingestions, and the queue as a whole."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from werkzeug.test import TestResponse

from ingest_service.app import build
from ingest_service.domain.items import Ids
from ingest_service.domain.model import Batch, Outcome, Priority
from ingest_service.domain.retry_policy import RetryPolicy
from ingest_service.engines.embedded.store import KEEP_IN_MEMORY
from ingest_service.errors import Conflict, StorageUnavailable
from ingest_service.settings import Settings
from ingest_service.upstreams.protocol import FinishedCall
from tests.restarts import Lives, living
from tests.support import GUARD, Api

UNKNOWN = "8f14e45f-ceea-467f-a8f5-1c2b3d4e5f60"
LATER = Outcome(succeeded=False, error="later", transient=True)
NO = Outcome(succeeded=False, error="no")
FINE = Outcome(succeeded=True, processed_data="fine")


@pytest.fixture(autouse=True)
def _longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every wait for another attempt be the longest that chance allows."""
    monkeypatch.setattr("ingest_service.app.RetryPolicy", partial(RetryPolicy, chance=lambda: 1.0))


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    """Give a service that survives its own end."""
    with living(tmp_path / "journal.sqlite3") as found:
        yield found


def replies(*each: Outcome | Sequence[Outcome]) -> Callable[[Batch], Any]:
    """Answer one batch after the other with `each`, and all after that with success."""
    left = iter(each)

    def reply(batch: Batch) -> Any:
        outcome = next(left, FINE)
        return [outcome] * len(batch.items) if isinstance(outcome, Outcome) else outcome

    return reply


def cancel(api: Api, ingestion_id: str) -> dict[str, Any]:
    """Cancel an ingestion; return the effect."""
    return told(api.client.post(f"/ingestions/{ingestion_id}/cancel"))


def move(api: Api, ingestion_id: str, priority: str) -> dict[str, Any]:
    """Give an ingestion another class; return the effect."""
    return told(api.client.patch(f"/ingestions/{ingestion_id}", json={"priority": priority}))


def retry(api: Api, ingestion_id: str) -> dict[str, Any]:
    """Queue what has failed once more; return the effect."""
    return told(api.client.post(f"/ingestions/{ingestion_id}/retry"))


def pause(api: Api, reason: str = "maintenance") -> dict[str, Any]:
    """Pause the queue; return how it is."""
    return told(api.client.post("/queue/pause", json={"reason": reason}))


def resume(api: Api) -> dict[str, Any]:
    """Resume the queue; return how it is."""
    return told(api.client.post("/queue/resume"))


def set_interval(api: Api, seconds: float) -> dict[str, Any]:
    """Change the interval; return how the queue is."""
    return told(api.client.patch("/queue", json={"interval_seconds": seconds}))


def told(answer: TestResponse) -> dict[str, Any]:
    """Return what a successful answer says."""
    assert answer.status_code == 200, answer.text
    return cast(dict[str, Any], answer.get_json())


def conflict(answer: TestResponse) -> str:
    """Return the reason of a conflict."""
    problem = answer.get_json()
    assert (answer.status_code, problem["type"]) == (409, "/problems/conflict"), problem
    return str(problem["detail"])


def counts(api: Api, ingestion_id: str) -> dict[str, int]:
    """Return the counts that are not 0, after checking that they make up the total."""
    found: dict[str, int] = api.status(ingestion_id)["counts"]
    assert found["total"] == sum(found.values()) - found["total"]
    return {name: number for name, number in found.items() if number and name != "total"}


def words(api: Api, ingestion_id: str) -> list[str]:
    """Return the overall state and those of the batches."""
    found = api.status(ingestion_id)
    return [found["status"], *(batch["status"] for batch in found["batches"])]


class TestCancel:
    """`POST /ingestions/<id>/cancel`."""

    def test_what_has_not_started_never_does(self, api: Api) -> None:
        """The slot goes to whoever is next, as if it had never been there."""
        gone, other = api.ingest([1, 2, 3, 4], "HIGH"), api.ingest([5], "LOW")
        assert cancel(api, gone) == {
            "ingestion_id": gone,
            "status": "cancelled",
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
        assert api.sent() == [(0.4, [5])]
        assert api.status(other)["status"] == "completed"

    def test_between_two_batches_the_rest_is_given_up_at_once(self, api: Api) -> None:
        """What is done stays done."""
        ingestion_id = api.ingest(range(1, 8))
        api.advance(3)
        answer = cancel(api, ingestion_id)
        found = api.status(ingestion_id)
        api.advance(30)

        assert (answer["status"], answer["cancelled_items"]) == ("cancelled", 4)
        assert words(api, ingestion_id) == ["cancelled", "completed", "cancelled", "cancelled"]
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

        assert words(api, ingestion_id) == ["cancelled", "completed", "cancelled"]
        assert api.status(ingestion_id)["finished_at"] == "2026-01-01T12:00:01.400Z"
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

        assert (answer["status"], answer["cancelled_items"]) == ("cancelled", 2)
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
        assert [each["status"] for each in during["details"]["batches"]] == [
            "in_progress",
            "cancelled",
        ]
        assert (after["status"], after["processed_mappings"], after["failed_mappings"]) == (
            "cancelled",
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

    def test_two_at_once_have_one_effect(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both are told the same, and it is recorded once."""
        recorded: list[object] = []
        monkeypatch.setattr(
            api.parts.journal, "cancelled", lambda *each: recorded.append(each), raising=True
        )
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

    def test_it_survives_a_restart(self, lives: Lives) -> None:
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
        assert lives.api.sent() == [(0.4, [5, 6, 7])]
        assert words(lives.api, running) == ["cancelled", "completed", "cancelled", "cancelled"]

    def test_a_batch_under_way_at_the_crash_is_sent_again_and_nothing_else(
        self, lives: Lives
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
        self, lives: Lives
    ) -> None:
        lives.api.upstream.reply = replies([FINE, LATER, NO])
        ingestion_id = lives.api.ingest([1, 2, 3])
        lives.api.advance(2)
        cancel(lives.api, ingestion_id)
        lives.crash()
        lives.api.advance(60)

        assert counts(lives.api, ingestion_id) == {"succeeded": 1, "failed": 1, "cancelled": 1}
        assert len(lives.api.sent()) == 1


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
                    "next_start_at": "2026-01-01T12:00:30.400Z",
                    "finish_at": "2026-01-01T12:00:36.400Z",
                    "latest_finish_at": None,
                },
            },
            "new": {
                "priority": "HIGH",
                "eta": {
                    "next_start_at": "2026-01-01T12:00:00.400Z",
                    "finish_at": "2026-01-01T12:00:06.400Z",
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
        assert api.sent() == [(0.4, [1, 2, 3]), (5.4, [4, 5, 6]), (10.4, [11])]

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
        assert api.sent() == [(0.4, [1]), (5.4, [1]), (10.4, [2])]

    def test_it_survives_a_restart(self, lives: Lives) -> None:
        ids = [lives.api.ingest([item], "LOW") for item in (1, 2)]
        move(lives.api, ids[1], "HIGH")
        lives.crash()
        assert lives.api.status(ids[1])["priority"] == "HIGH"
        lives.api.advance(60)
        assert [items for _, items in lives.api.sent()] == [[2], [1]]


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
        assert results[1]["timestamp"] == "2026-01-01T12:00:11.400Z"
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

    def test_one_that_only_the_journal_knows_comes_back(self, lives: Lives) -> None:
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
        assert (found["outcome"], found["started_at"]) == ("succeeded", "2026-01-01T12:00:00.400Z")
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

    def test_only_what_is_recorded_as_finished_is_opened_again(self, api: Api) -> None:
        """The few microseconds before that are a conflict that passes."""
        api.upstream.reply = replies(NO)
        ingestion_id = api.ingest([1])
        api.advance(2)
        api.parts.service._store.find(ingestion_id).recorded = False
        answer = api.client.post(f"/ingestions/{ingestion_id}/retry")
        assert conflict(answer) == "It is just being finished; try again."


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
        failed = api.status(ingestion_id)["status"]
        api.advance(seconds)

        assert (refused.status_code, refused.get_json()["type"]) == (503, "/problems/queue-full")
        assert (seconds, failed) == (4, "failed")
        assert retry(api, ingestion_id)["retried_items"] == 2
        assert api.client.get("/health").get_json()["queued_items"] == 2
        api.advance(60)
        assert api.client.get("/health").get_json()["queued_items"] == 0


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
        assert words(api, ingestion_id) == ["triggered", "completed", "yet_to_start"]

    def test_a_short_pause_does_not_open_a_slot_earlier(self, api: Api) -> None:
        """The interval since the last start still counts."""
        api.ingest(range(1, 7))
        api.advance(1)
        pause(api)
        resume(api)
        api.advance(10)
        assert [at for at, _ in api.sent()] == [0.4, 5.4]

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
    def test_it_survives_a_restart(self, lives: Lives, reason: str) -> None:
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
        ("seconds", "expected"), [(2, 2.4), (2.5, 2.9), (12, 12.4), (0.1, 1.4)]
    )
    def test_it_counts_from_the_last_start(self, api: Api, seconds: float, expected: float) -> None:
        """Faster or slower, from the next slot on; a batch under way is waited for."""
        api.ingest(range(1, 10))
        api.advance(1)
        assert set_interval(api, seconds)["interval_seconds"] == seconds
        api.advance(40)

        first, second, third = (at for at, _ in api.sent())
        assert first == 0.4
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

    def test_it_survives_a_restart(self, lives: Lives) -> None:
        lives.api.ingest(range(1, 10))
        set_interval(lives.api, 7.25)
        lives.crash()
        assert lives.api.client.get("/queue").get_json()["interval_seconds"] == 7.25
        lives.api.advance(40)
        assert [round(b - a, 3) for (a, _), (b, _) in pairwise(lives.api.sent())] == [7.25, 7.25]

    def test_a_change_after_a_restart_survives_the_next_one(self, lives: Lives) -> None:
        """What it is compared with is the setting, not what was in effect."""
        set_interval(lives.api, 20)
        lives.crash()
        set_interval(lives.api, 30)
        lives.crash()
        assert lives.api.client.get("/queue").get_json()["interval_seconds"] == 30

    def test_the_setting_wins_once_it_is_changed(self, lives: Lives) -> None:
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
        assert api.status(ingestion_id)["eta"]["finish_at"] == "2026-01-01T12:00:21.400Z"


@pytest.mark.parametrize(
    ("method", "end"), [("POST", "/cancel"), ("PATCH", ""), ("POST", "/retry")]
)
def test_what_nobody_knows_cannot_be_changed(api: Api, method: str, end: str) -> None:
    answer = api.client.open(
        f"/ingestions/{UNKNOWN}{end}", method=method, json={"priority": "HIGH"}
    )
    assert answer.status_code == 404
    assert answer.get_json()["detail"] == "Ingestion ID not found"


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
    everything = ("/queue", f"/status/{failed}", f"/status/{ingestion_id}", "/health")
    before = [api.client.get(path).data for path in everything]
    for name in ("cancelled", "moved", "reopened", "remember"):
        monkeypatch.setattr(api.parts.journal, name, broken)
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
