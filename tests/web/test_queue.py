"""The queue as a whole, and the proof of its rate."""

import pytest
from flask.testing import FlaskClient

from ingest_service.domain.model import Outcome
from ingest_service.settings import Settings
from tests.restarts import Restarts
from tests.support import Api, serving
from tests.web.support import NO, clock_time, get, half, refused

EMPTY = {"batches": 0, "items": 0, "ingestions": 0, "oldest_at": None}


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
            "taken": [],
            "next_slot_at": None,
            "empty_at": None,
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
            "taken": [
                {
                    "at": clock_time(0.45),
                    "ended_at": None,
                    "ingestion_id": first,
                    "batch_id": running.batch_id,
                    "priority": "MEDIUM",
                    "items": 3,
                    "succeeded": 0,
                    "failed": 0,
                    "retried": 0,
                }
            ],
            "next_slot_at": clock_time(5.45),
            "empty_at": clock_time(31.45),
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

    def test_what_was_tried_again_by_hand_counts_what_was_sent(self, lives: Restarts) -> None:
        """The decision to try again is no start."""
        lives.api.upstream.reply = lambda batch: [NO] * len(batch.items)
        ingestion_id = lives.api.ingest([1])
        lives.api.advance(3)
        lives.api.client.post(f"/ingestions/{ingestion_id}/retry")
        lives.api.advance(10)
        assert get(lives.api.client, "/rate-proof")["starts"] == len(lives.api.sent()) == 2

    def test_it_goes_on_over_a_restart(self, lives: Restarts) -> None:
        """The gap across it included; the batch that was under way is sent again."""
        lives.api.ingest(range(1, 10))
        lives.api.advance(6)
        lives.crash(down=1)
        lives.api.advance(30)
        proof = get(lives.api.client, "/rate-proof")

        assert (proof["starts"], proof["smallest_gap_seconds"], proof["violations"]) == (4, 5.0, 0)
        # Nobody knows when the request under way went out, so a whole interval is waited.
        assert [at for at, _ in lives.api.sent()] == [0.45, 5.45, 12, 17]

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


class TestTakenSlots:
    """What became of the last slots, and when nothing is left."""

    def test_a_slot_tells_what_became_of_its_batch(self, still: Api) -> None:
        still.upstream.reply = half
        ingestion_id = still.ingest([1, 2, 3, 4], "HIGH")
        still.advance(2)
        (taken,) = get(still.client, "/queue")["taken"]

        assert (taken["ingestion_id"], taken["priority"]) == (ingestion_id, "HIGH")
        assert (taken["at"], taken["ended_at"]) == (clock_time(0.45), clock_time(1.45))
        assert [taken[key] for key in ("items", "succeeded", "failed", "retried")] == [3, 2, 1, 0]

    def test_a_batch_under_way_has_no_end(self, still: Api) -> None:
        still.ingest([1])
        still.advance(1)
        (taken,) = get(still.client, "/queue")["taken"]
        assert (taken["ended_at"], taken["items"], taken["succeeded"]) == (None, 1, 0)

    def test_the_last_20_are_told_oldest_first(self, still: Api) -> None:
        still.ingest(range(1, 100))
        still.advance(26 * 5)
        taken = get(still.client, "/queue")["taken"]
        starts = [slot["at"] for slot in taken]
        assert starts == [clock_time(0.45 + 5 * number) for number in range(6, 26)]

    def test_the_queue_says_when_it_is_empty(self, still: Api) -> None:
        """It is what the last ingestion of all expects."""
        still.ingest([1, 2, 3, 4], "HIGH")
        last = still.ingest([5, 6, 7, 8], "LOW")
        empty_at = get(still.client, "/queue")["empty_at"]
        assert empty_at == still.status(last)["eta"]["finish_at"] == clock_time(16.45)

    def test_while_it_is_paused_nobody_knows(self, still: Api) -> None:
        still.ingest([1])
        still.client.post("/queue/pause")
        assert get(still.client, "/queue")["empty_at"] is None


@pytest.mark.parametrize("path", ["/queue", "/ingestions"])
def test_what_has_not_changed_is_not_sent_again(still: Api, path: str) -> None:
    still.ingest([1, 2, 3, 4])
    first = still.client.get(path)
    known = {"If-None-Match": first.headers["ETag"]}
    assert first.headers["Cache-Control"] == "no-cache"
    assert still.client.get(path, headers=known).status_code == 304
    still.advance(1)
    assert still.client.get(path, headers=known).status_code == 200
