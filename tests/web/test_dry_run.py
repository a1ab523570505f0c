"""A plan before it is a request."""

from typing import Any, cast

import pytest
from flask.testing import FlaskClient

from ingest_service.settings import Settings
from tests.support import Api, serving
from tests.web.support import clock_time, get

MAPPINGS = [{"id": f"m{n}", "source": "s", "target": "t"} for n in range(7)]


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

    @pytest.mark.parametrize("moment", ["look", "snapshot"])
    def test_asking_takes_no_room_from_a_request_that_comes_at_the_same_time(
        self, moment: str
    ) -> None:
        """Not for a moment, neither before nor after the look at the room."""
        with serving(Settings(max_queued_items=4), threaded=False) as api:
            engine, real = api.parts.engine, []
            owner = engine.intake if moment == "look" else engine.reading
            asked = getattr(owner, moment)

            def meanwhile(*args: Any) -> Any:
                found = asked(*args)
                real.append(api.client.post("/ingest", json={"ids": [1, 2], "priority": "LOW"}))
                return found

            setattr(owner, moment, meanwhile)
            self.plan(api, {"ids": [1, 2, 3, 4], "priority": "LOW"})
        assert [answer.status_code for answer in real] == [200]
