"""Looking at everything at once: the queue, the list, the rate, and a plan before it is one."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from flask.testing import FlaskClient

from ingest_service.domain.model import Outcome
from ingest_service.settings import Settings
from tests.restarts import Lives, living
from tests.support import Api, serving

NO = Outcome(succeeded=False, error="no")
BAD = {"id": "bad", "source": "s", "target": "t"}
EMPTY = {"batches": 0, "items": 0, "ingestions": 0, "oldest_at": None}
MAPPINGS = [{"id": f"m{n}", "source": "s", "target": "t"} for n in range(7)]


@pytest.fixture
def still(settings: Settings) -> Iterator[Api]:
    """Give a service whose worker rests until time is advanced."""
    with serving(settings, threaded=False) as served:
        yield served


@pytest.fixture
def client(still: Api) -> FlaskClient:
    """Give a client of `still`."""
    return still.client


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    """Give a service that survives its own end."""
    with living(tmp_path / "journal.sqlite3") as found:
        yield found


def clock_time(seconds: float) -> str:
    """Return the time `seconds` after the test began, as answers write it."""
    at = datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(seconds=seconds)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def get(client: FlaskClient, path: str, **query: Any) -> dict[str, Any]:
    """Return what a successful answer says."""
    answer = client.get(path, query_string=query)
    assert answer.status_code == 200, answer.text
    return cast(dict[str, Any], answer.get_json())


def post(client: FlaskClient, mappings: list[dict[str, Any]]) -> str:
    """Post urgent mappings; return the id of the ingestion."""
    answer = client.post("/ingest", json={"mappings": mappings, "priority": "HIGH"})
    return str(answer.get_json()["request_id"])


def refused(client: FlaskClient, path: str, **query: Any) -> list[str]:
    """Return what is wrong with a query."""
    answer = client.get(path, query_string=query)
    assert answer.status_code == 400, answer.text
    return [each["pointer"] for each in answer.get_json()["errors"]]


class TestQueue:
    """`GET /queue`."""

    def test_an_empty_queue(self, api: Api) -> None:
        assert get(api.client, "/queue") == {
            "state": "running",
            "reason": None,
            "until": None,
            "interval_seconds": 5.0,
            "policy": "strict",
            "depth": {"HIGH": EMPTY, "MEDIUM": EMPTY, "LOW": EMPTY},
            "in_flight": [],
            "next_slot_at": None,
            "next": [],
        }

    def test_everything_that_waits_and_is_under_way(self, api: Api) -> None:
        first = api.ingest(range(1, 8), "MEDIUM")
        api.advance(1)
        second = api.ingest([11, 12, 13, 14], "LOW")
        third = api.ingest_mappings(6, "LOW")
        (_, running) = api.upstream.starts[0]

        def coming(seconds: float, ingestion_id: str, priority: str) -> dict[str, str]:
            return {
                "at": clock_time(seconds),
                "ingestion_id": ingestion_id,
                "priority": priority,
            }

        assert get(api.client, "/queue/") == {
            "state": "running",
            "reason": None,
            "until": None,
            "interval_seconds": 5.0,
            "policy": "strict",
            "depth": {
                "HIGH": EMPTY,
                "MEDIUM": {
                    "batches": 2,
                    "items": 4,
                    "ingestions": 1,
                    "oldest_at": clock_time(0),
                },
                "LOW": {"batches": 4, "items": 10, "ingestions": 2, "oldest_at": clock_time(1)},
            },
            "in_flight": [
                {
                    "ingestion_id": first,
                    "batch_id": running.batch_id,
                    "items": 3,
                    "attempt": 1,
                }
            ],
            "next_slot_at": clock_time(5.45),
            "next": [
                coming(5.45, first, "MEDIUM"),
                coming(10.45, first, "MEDIUM"),
                coming(15.45, second, "LOW"),
                coming(20.45, second, "LOW"),
                coming(25.45, third, "LOW"),
                coming(30.45, third, "LOW"),
            ],
        }

    @pytest.mark.parametrize("policy", ["strict", "aged", "weighted"])
    def test_the_sixty_slots_to_come_are_those_that_come(self, policy: str) -> None:
        """Each with its instant and what it serves."""
        with serving(Settings(policy=policy, aged_after=60), threaded=False) as api:
            for turn in range(30):
                priority = ("HIGH", "MEDIUM", "LOW", "LOW")[turn % 4]
                api.ingest(range(1, 2 + turn), priority)
                api.advance(0.1)
            expected = get(api.client, "/queue")["next"]
            already = len(api.upstream.starts)
            api.advance(60 * 5)

            found = [
                {"at": clock_time(round(at - api.began, 3)), "ingestion_id": batch.ingestion_id}
                for at, batch in api.upstream.starts[already : already + 60]
            ]
        assert len(expected) == 60
        assert [{key: each[key] for key in ("at", "ingestion_id")} for each in expected] == found

    def test_what_waits_for_another_attempt_is_counted(self, api: Api) -> None:
        """It is in nobody's way, but it is not done either."""
        api.upstream.reply = lambda batch: (
            [Outcome(succeeded=False, error="later", transient=True)] * len(batch.items)
        )
        api.ingest([1, 2], "HIGH")
        api.advance(1.5)
        depth = get(api.client, "/queue")["depth"]["HIGH"]
        assert (depth["items"], depth["ingestions"]) == (2, 1)


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

    def test_they_can_be_told_apart_by_status_outcome_and_priority(self, lives: Lives) -> None:
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

    def test_a_cursor_for_any_place_is_no_harm(self, lives: Lives) -> None:
        """Whoever invents one gets an empty page, or a full one; the journal can count so far."""
        posted = lives.api.ingest([1])
        for cursor, found in (("AAAAAAAAAAA=", []), ("f_________8=", [posted])):
            assert self.ids(lives.api.client, cursor=cursor) == found


class TestDryRun:
    """`POST /ingest?dry_run=true`."""

    def plan(self, api: Api, body: dict[str, Any]) -> dict[str, Any]:
        """Ask what would become of a request."""
        answer = api.client.post("/ingest?dry_run=true", json=body)
        assert answer.status_code == 200, answer.text
        assert "Location" not in answer.headers
        return cast(dict[str, Any], answer.get_json())

    def test_nothing_is_stored(self, api: Api) -> None:
        """Not even its key."""
        body = {"ids": [1, 2, 3, 4], "priority": "HIGH"}
        headers = {"Idempotency-Key": "k"}
        answer = api.client.post("/ingest?dry_run=true", json=body, headers=headers)
        health = get(api.client, "/health")
        api.advance(10)

        assert answer.get_json() == {
            "dry_run": True,
            "kind": "ids",
            "priority": "HIGH",
            "items": 4,
            "batches_total": 2,
            "batch_size": 3,
            "queue": {"position": 1, "batches_ahead": 0},
            "eta": {
                "next_start_at": clock_time(0.45),
                "finish_at": clock_time(6.45),
                "latest_finish_at": None,
            },
        }
        assert (health["active_requests"], health["queued_items"]) == (0, 0)
        assert get(api.client, "/ingestions")["ingestions"] == []
        assert api.sent() == []
        again = api.client.post("/ingest", json=body, headers=headers)
        assert "Idempotency-Replayed" not in again.headers

    @pytest.mark.parametrize("priority", ["HIGH", "MEDIUM", "LOW"])
    @pytest.mark.parametrize("seconds", [0, 0.2, 1, 5])
    def test_the_plan_is_what_happens_when_it_is_posted(
        self, api: Api, priority: str, seconds: float
    ) -> None:
        """In the middle of other work."""
        for first, each in enumerate(("LOW", "MEDIUM", "HIGH", "MEDIUM")):
            api.ingest(range(first * 10 + 1, first * 10 + 6), each)
        api.advance(seconds)
        body = {"ids": [91, 92, 93, 94], "priority": priority}
        plan = self.plan(api, body)
        found = api.status(api.ingest([91, 92, 93, 94], priority))
        api.advance(100)
        after = api.status(found["ingestion_id"])

        assert (plan["queue"], plan["eta"]) == (found["queue"], found["eta"])
        assert plan["eta"]["next_start_at"] == after["started_at"]
        assert plan["eta"]["finish_at"] == after["finished_at"]

    def test_an_idle_service_settles_first(self, api: Api) -> None:
        """After a rest, as at the beginning."""
        api.ingest([1])
        api.advance(60)
        plan = self.plan(api, {"ids": [2], "priority": "LOW"})
        assert plan["eta"]["next_start_at"] == clock_time(60.45)

    def test_mappings_have_batches_of_their_own_size(self, api: Api) -> None:
        plan = self.plan(api, {"mappings": MAPPINGS, "priority": "LOW"})
        assert (plan["kind"], plan["items"], plan["batches_total"], plan["batch_size"]) == (
            "mappings",
            7,
            2,
            5,
        )
        assert plan["eta"]["finish_at"] == clock_time(6.45)

    def test_while_the_queue_is_paused_nobody_knows(self, api: Api) -> None:
        api.client.post("/queue/pause")
        plan = self.plan(api, {"ids": [2], "priority": "LOW"})
        assert (plan["queue"], plan["eta"]) == (None, None)

    @pytest.mark.parametrize(
        "body", [{}, {"ids": [0], "priority": "LOW"}, {"ids": [1]}, {"ids": [1], "mappings": []}]
    )
    def test_what_would_be_refused_is(self, client: FlaskClient, body: dict[str, Any]) -> None:
        planned = client.post("/ingest?dry_run=true", json=body)
        real = client.post("/ingest", json=body)
        assert planned.status_code == real.status_code == 400
        assert planned.get_json() == real.get_json()

    def test_false_means_that_it_is_meant(self, client: FlaskClient) -> None:
        body = {"ids": [1], "priority": "LOW"}
        assert list(client.post("/ingest?dry_run=false", json=body).get_json()) == ["ingestion_id"]
        assert get(client, "/health")["active_requests"] == 1

    @pytest.mark.parametrize("value", ["", "1", "True", "yes", "x", "\0"])
    def test_anything_else_is_refused_before_it_is_stored(
        self, client: FlaskClient, value: str
    ) -> None:
        """A typo must not start what was only to be tried."""
        answer = client.post(
            "/ingest", query_string={"dry_run": value}, json={"ids": [1], "priority": "LOW"}
        )
        assert [each["pointer"] for each in answer.get_json()["errors"]] == ["/dry_run"]
        assert get(client, "/health")["active_requests"] == 0

    def test_a_full_queue_would_not_take_it(self) -> None:
        """And asking does not use up the room."""
        with serving(Settings(max_queued_items=4), threaded=False) as api:
            body = {"ids": [1, 2, 3], "priority": "LOW"}
            for _ in range(3):
                self.plan(api, body)
            api.ingest([1, 2])
            refused = api.client.post("/ingest?dry_run=true", json=body)
            real = api.client.post("/ingest", json=body)
        assert (refused.status_code, refused.get_json()) == (503, real.get_json())
        assert refused.headers["Retry-After"] == real.headers["Retry-After"]


class TestRateProof:
    """`GET /rate-proof`."""

    def test_nothing_was_started(self, api: Api) -> None:
        assert get(api.client, "/rate-proof") == {
            "from": None,
            "to": None,
            "starts": 0,
            "smallest_gap_seconds": None,
            "violations": 0,
            "examples": [],
        }

    def test_starts_are_counted_with_the_smallest_gap(self, api: Api) -> None:
        """The very first start has none."""
        api.ingest([1])
        api.advance(1)
        first = get(api.client, "/rate-proof")
        api.ingest(range(1, 7))
        api.advance(20)
        api.ingest([1])
        api.advance(2)
        then = get(api.client, "/rate-proof")

        assert (first["starts"], first["smallest_gap_seconds"]) == (1, None)
        assert (then["starts"], then["smallest_gap_seconds"], then["violations"]) == (4, 5.0, 0)

    def test_a_period_has_its_first_moment_and_not_its_last(self, api: Api) -> None:
        api.ingest(range(1, 10))
        api.advance(20)

        def starts(**period: str) -> int:
            return int(get(api.client, "/rate-proof", **period)["starts"])

        second = {"from": clock_time(5.45), "to": clock_time(10.45)}
        assert starts(**second) == 1
        assert starts(**{"from": clock_time(5.45)}) == 2
        assert starts(to=clock_time(5.45)) == 1
        assert starts(**{"from": clock_time(10.5)}) == 0
        assert starts(**{"from": "2026-01-01T14:00:05.45+02:00", "to": clock_time(99)}) == 2
        assert starts(**{"from": clock_time(99), "to": clock_time(1)}) == 0
        assert get(api.client, "/rate-proof", **second)["from"] == clock_time(5.45)

    def test_another_interval_is_judged_by_itself(self, api: Api) -> None:
        """A faster pace is no violation of the slower one before."""
        api.ingest(range(1, 13))
        api.advance(6)
        api.client.patch("/queue", json={"interval_seconds": 2})
        api.advance(20)
        proof = get(api.client, "/rate-proof")
        assert (proof["starts"], proof["violations"]) == (4, 0)
        assert proof["smallest_gap_seconds"] == pytest.approx(2, abs=0.001)

    def test_retries_are_starts_too(self, api: Api) -> None:
        later = Outcome(succeeded=False, error="later", transient=True)
        api.upstream.reply = lambda batch: [later] * len(batch.items)
        api.ingest([1])
        api.advance(3_000)
        assert get(api.client, "/rate-proof")["starts"] == len(api.sent()) == 5

    def test_what_was_tried_again_by_hand_counts_what_was_sent(self, lives: Lives) -> None:
        """The decision to try again is no start."""
        lives.api.upstream.reply = lambda batch: [NO] * len(batch.items)
        ingestion_id = lives.api.ingest([1])
        lives.api.advance(3)
        lives.api.client.post(f"/ingestions/{ingestion_id}/retry")
        lives.api.advance(10)
        assert get(lives.api.client, "/rate-proof")["starts"] == len(lives.api.sent()) == 2

    def test_it_goes_on_over_a_restart(self, lives: Lives) -> None:
        """The gap across it included; the batch that was under way is sent again."""
        lives.api.ingest(range(1, 10))
        lives.api.advance(6)
        lives.crash(down=1)
        lives.api.advance(30)
        proof = get(lives.api.client, "/rate-proof")

        assert (proof["starts"], proof["smallest_gap_seconds"], proof["violations"]) == (4, 5.0, 0)
        assert [at for at, _ in lives.api.sent()] == [0.45, 5.45, 10.45, 15.45]

    @pytest.mark.parametrize("name", ["from", "to"])
    @pytest.mark.parametrize(
        "value",
        [
            *("", "x", "2026-01-01", "2026-01-01T12:00:00", "2026-13-01T12:00:00Z", "1767268800"),
            *(
                "2026-01-01T12:00:00+25:00",
                "0001-01-01T00:00:00+14:00",
                "9999-12-31T23:59:59-14:00",
            ),
            *("\0", "now", "2026-01-01T12:00:00ZZ", "9" * 400),
        ],
    )
    def test_what_is_no_time_is_refused(self, client: FlaskClient, name: str, value: str) -> None:
        assert refused(client, "/rate-proof", **{name: value}) == [f"/{name}"]
