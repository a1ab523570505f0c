"""The list of ingestions."""

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from ingest_service.domain.model import Outcome
from ingest_service.engines.embedded.journal import (
    Cancelled,
    Change,
    Reopened,
    Settled,
    Started,
)
from ingest_service.settings import Settings
from tests.meanwhile import once_recorded
from tests.restarts import Restarts
from tests.support import Api, serving
from tests.web.support import NO, clock_time, get, post, refused

BAD = {"id": "bad", "source": "s", "target": "t"}


class TestIngestions:
    """`GET /ingestions`."""

    def ids(self, client: FlaskClient, **query: Any) -> list[str]:
        """Return the ids of a page."""
        return [each["ingestion_id"] for each in get(client, "/ingestions", **query)["ingestions"]]

    def test_the_newest_comes_first_in_the_words_of_its_clients(self, api: Api) -> None:
        old = api.ingest([1, 2], "HIGH")
        api.advance(5)
        new = api.ingest_mappings(6, "LOW")
        api.advance(1)

        assert get(api.client, "/ingestions") == {
            "ingestions": [
                {
                    "ingestion_id": new,
                    "kind": "mappings",
                    "status": "in_progress",
                    "priority": "LOW",
                    "submitted_by": None,
                    "created_at": clock_time(5),
                    "started_at": clock_time(5.45),
                    "finished_at": None,
                    "outcome": None,
                    "counts": {
                        "total": 6,
                        "queued": 1,
                        "in_flight": 5,
                        "succeeded": 0,
                        "failed": 0,
                        "cancelled": 0,
                    },
                    "progress": 0,
                },
                {
                    "ingestion_id": old,
                    "kind": "ids",
                    "status": "completed",
                    "priority": "HIGH",
                    "submitted_by": None,
                    "created_at": clock_time(0),
                    "started_at": clock_time(0.45),
                    "finished_at": clock_time(1.45),
                    "outcome": "succeeded",
                    "counts": {
                        "total": 2,
                        "queued": 0,
                        "in_flight": 0,
                        "succeeded": 2,
                        "failed": 0,
                        "cancelled": 0,
                    },
                    "progress": 100,
                },
            ],
            "next_cursor": None,
        }

    def test_they_can_be_told_apart_by_status_outcome_and_priority(self, lives: Restarts) -> None:
        """A word finds what shows it; the journal and the memory agree."""
        api = lives.api
        api.upstream.reply = lambda batch: [
            NO if item == 9 or item == BAD else Outcome(succeeded=True) for item in batch.items
        ]
        done = api.ingest([1], "HIGH")
        failed = api.ingest([9], "MEDIUM")
        gone = api.ingest([2], "LOW")
        api.advance(7)
        api.client.post(f"/ingestions/{gone}/cancel")
        half = api.ingest([1, 9], "HIGH")
        none = post(api.client, [BAD])
        api.advance(10)
        running = api.ingest(range(1, 9), "HIGH")
        api.advance(5)
        waiting = api.ingest_mappings(1, "LOW")

        for _ in range(2):
            client = lives.api.client
            assert self.ids(client) == [waiting, running, none, half, gone, failed, done]
            for word, found in (
                ("yet_to_start", []),
                ("pending", [waiting]),
                ("triggered", [running]),
                ("in_progress", []),
                ("completed", [half, gone, failed, done]),
                ("failed", [none]),
            ):
                assert self.ids(client, status=word) == found, word
            for outcome, found in (
                ("succeeded", [done]),
                ("partially_failed", [half]),
                ("failed", [none, failed]),
                ("cancelled", [gone]),
            ):
                assert self.ids(client, outcome=outcome) == found, outcome
            assert self.ids(client, priority="HIGH") == [running, none, half, done]
            assert self.ids(client, priority="LOW", outcome="cancelled") == [gone]
            assert self.ids(client, status="completed", outcome="failed") == [failed]
            assert self.ids(client, priority="MEDIUM", status="pending") == []
            lives.crash()

    @pytest.mark.parametrize("journal", ["memory", "journal.sqlite3"])
    def test_a_list_shows_what_was_answered_before(self, tmp_path: Path, journal: str) -> None:
        """What was accepted, cancelled, moved or opened again, though the worker rests."""
        where = journal if journal == "memory" else str(tmp_path / journal)
        with serving(Settings(journal=where), threaded=False) as api:
            self.check_answers(api)
            api.parts.journal.close()

    def check_answers(self, api: Api) -> None:
        """Check the lists after each answer."""
        api.upstream.reply = lambda batch: [NO] * len(batch.items)
        failed = api.ingest([1], "HIGH")
        api.advance(3)
        gone, moved = api.ingest([2]), api.ingest([3])
        assert self.ids(api.client, status="yet_to_start") == [moved, gone]
        api.client.post(f"/ingestions/{gone}/cancel")
        assert self.ids(api.client, outcome="cancelled") == [gone]
        assert self.ids(api.client, status="yet_to_start") == [moved]
        api.client.patch(f"/ingestions/{moved}", json={"priority": "LOW"})
        assert self.ids(api.client, priority="LOW") == [moved]
        assert self.ids(api.client, outcome="failed") == [failed]
        api.client.post(f"/ingestions/{failed}/retry")
        assert self.ids(api.client, outcome="failed") == []
        assert self.ids(api.client, status="triggered") == [failed]
        assert self.ids(api.client) == [moved, gone, failed]

    @pytest.mark.parametrize("seconds", [0, 200], ids=["waiting", "finished"])
    @pytest.mark.embedded
    def test_pages_go_by_the_order_of_arrival_whichever_is_durable_first(
        self, still: Api, seconds: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One request overtakes another on its way to the disk; both are on a page."""
        accept, ids, left = still.parts.journal.accept, [], [1]

        def overtaken(*args: Any) -> "Future[str]":
            if left:
                left.pop()
                ids.append(still.ingest([2]))
            return accept(*args)

        monkeypatch.setattr(still.parts.journal, "accept", overtaken)
        ids.append(still.ingest([1]))
        still.advance(seconds)
        first = get(still.client, "/ingestions", limit=1)
        second = get(still.client, "/ingestions", limit=1, cursor=first["next_cursor"])
        shown = [page["ingestions"][0]["ingestion_id"] for page in (first, second)]
        assert shown == ids
        assert second["next_cursor"] is None

    @pytest.mark.parametrize("kind", [Started, Settled, Cancelled, Reopened])
    @pytest.mark.embedded
    def test_a_list_is_whole_and_true_to_its_filter_whatever_is_just_recorded(
        self, still: Api, kind: type[Change]
    ) -> None:
        """Everything is in it once, in a state that was asked for."""
        still.upstream.reply = lambda batch: [NO] * len(batch.items)
        ids = [still.ingest([number]) for number in (1, 2, 3)]
        words = ("yet_to_start", "triggered", "completed")
        seen: list[tuple[str, str]] = []
        all_seen: list[str] = []

        def look() -> None:
            all_seen.extend(self.ids(still.client))
            for word in words:
                page = get(still.client, "/ingestions", status=word)["ingestions"]
                seen.extend((word, each["status"]) for each in page)

        if kind is Reopened:
            still.advance(2)
        once_recorded(still.parts.journal, kind, look)
        still.client.post(f"/ingestions/{ids[0]}/retry")
        still.client.post(f"/ingestions/{ids[2]}/cancel")
        still.advance(2)
        assert all_seen == ids[::-1]
        assert all(asked == shown for asked, shown in seen)
        assert len(seen) >= 3

    @pytest.mark.parametrize("word", ["cancelled", "succeeded", "partially_failed"])
    def test_an_outcome_is_no_status_and_the_answer_says_how_to_ask(
        self, client: FlaskClient, word: str
    ) -> None:
        answer = client.get(f"/ingestions?status={word}")
        (error,) = answer.get_json()["errors"]
        assert (answer.status_code, error["pointer"]) == (400, "/status")
        assert error["detail"] == f"This is an outcome: ask for it with outcome={word}."

    def test_a_list_that_grows_is_paged_without_gaps_and_repetitions(self, api: Api) -> None:
        posted = [api.ingest([1], ("HIGH", "LOW")[n % 2]) for n in range(25)]
        found: list[str] = []
        query: dict[str, Any] = {"limit": 4}
        while True:
            page = get(api.client, "/ingestions", **query)
            found += [each["ingestion_id"] for each in page["ingestions"]]
            if page["next_cursor"] is None:
                break
            assert len(page["ingestions"]) == 4
            query["cursor"] = page["next_cursor"]
            api.ingest([2])
            api.advance(2)
        assert found == posted[::-1]

    def test_the_last_page_is_known_for_the_last(self, api: Api) -> None:
        """Also when it is full."""
        posted = [api.ingest([1]) for _ in range(4)]
        first = get(api.client, "/ingestions", limit=2)
        last = get(api.client, "/ingestions", limit=2, cursor=first["next_cursor"])
        assert [each["ingestion_id"] for each in last["ingestions"]] == posted[1::-1]
        assert last["next_cursor"] is None

    def test_filters_hold_on_every_page(self, api: Api) -> None:
        posted = [api.ingest([1], ("HIGH", "LOW")[n % 2]) for n in range(10)]
        first = get(api.client, "/ingestions", limit=3, priority="LOW")
        rest = get(api.client, "/ingestions", limit=3, priority="LOW", cursor=first["next_cursor"])
        both = [*first["ingestions"], *rest["ingestions"]]
        assert [each["ingestion_id"] for each in both] == posted[::-2]

    def test_fifty_are_listed_unless_asked_otherwise(self, api: Api) -> None:
        api.client.post("/queue/pause")
        for _ in range(51):
            api.ingest([1])
        assert len(self.ids(api.client)) == 50
        assert len(self.ids(api.client, limit=1_000)) == 51

    def test_what_is_older_than_the_retention_is_not_listed(self) -> None:
        with serving(Settings(retention=60), threaded=False) as api:
            old = api.ingest([1])
            api.advance(30)
            kept = api.ingest([2])
            api.advance(35)
            assert self.ids(api.client) == [kept]
            assert api.client.get(f"/status/{old}").status_code == 404

    def test_an_empty_list(self, api: Api) -> None:
        assert get(api.client, "/ingestions") == {"ingestions": [], "next_cursor": None}

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(
                ("cursor", bad)
                for bad in ("x", "", "AAAA", "é", "AAAAAAAAAAA", "0", "\0", "=" * 9, "g_________8=")
            ),
            *(("cursor", bad) for bad in ("A" * 12, "A" * 10_000, "AAAAAAAAAAA= ", "-1")),
            *(("limit", bad) for bad in ("0", "-1", "1001", "abc", "", "1.5", "9" * 400)),
            *(("status", bad) for bad in ("", "COMPLETED", "waiting", "started", "x", "\0")),
            *(("priority", bad) for bad in ("", "high", "1", "x", "name")),
        ],
    )
    def test_what_cannot_be_asked_is_refused(
        self, client: FlaskClient, name: str, value: str
    ) -> None:
        assert refused(client, "/ingestions", **{name: value}) == [f"/{name}"]

    def test_a_cursor_for_any_place_is_no_harm(self, lives: Restarts) -> None:
        """Whoever invents one gets an empty page, or a full one; the journal can count so far."""
        posted = lives.api.ingest([1])
        for cursor, found in (("AAAAAAAAAAA=", []), ("f_________8=", [posted])):
            assert self.ids(lives.api.client, cursor=cursor) == found
