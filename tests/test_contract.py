"""What clients of both families rely on, answer by answer."""

import re
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from ingest_service.app import build, create_app
from ingest_service.domain.model import Batch, Outcome
from ingest_service.settings import Settings
from ingest_service.version import VERSION
from tests.support import Api, serving

UNKNOWN = "8f14e45f-ceea-467f-a8f5-1c2b3d4e5f60"
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
IDS = {"ids": [1, 2, 3, 4], "priority": "HIGH"}
MAPPINGS = {
    "mappings": [
        {"id": "map_001", "source": "s", "target": "t", "transformation": {"upper": ["name"]}},
        {"id": "map_002", "source": "s", "target": "t"},
    ],
    "priority": "LOW",
}
ROUTES = (
    "/",
    "/health",
    "/health/live",
    "/health/ready",
    "/docs",
    "/redoc",
    "/openapi.json",
    "/problems/not-found",
    "/queue",
    "/ingestions",
    "/rate-proof",
)


@pytest.fixture
def still(settings: Settings) -> Iterator[Api]:
    """Give a service whose worker rests until time is advanced."""
    with serving(settings, threaded=False) as served:
        yield served


@pytest.fixture
def client(still: Api) -> FlaskClient:
    """Give a client of `still`."""
    return still.client


def half(batch: Batch) -> list[Outcome]:
    """Let every second item fail."""
    return [
        Outcome(succeeded=False, error="no") if place % 2 else Outcome(succeeded=True)
        for place in range(len(batch.items))
    ]


# Submitting


def test_posted_ids_are_answered_with_an_id_and_nothing_else(client: FlaskClient) -> None:
    answer = client.post("/ingest", json=IDS)

    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    body = answer.get_json()
    assert list(body) == ["ingestion_id"]
    assert UUID4.fullmatch(body["ingestion_id"])
    assert answer.headers["Location"] == f"/status/{body['ingestion_id']}"


def test_posted_mappings_are_answered_in_the_words_of_their_clients(client: FlaskClient) -> None:
    answer = client.post("/ingest", json=MAPPINGS)

    body = answer.get_json()
    assert UUID4.fullmatch(body["request_id"])
    assert body == {
        "request_id": body["request_id"],
        "status": "pending",
        "message": "Ingestion request created successfully. 2 mappings queued for processing.",
    }
    assert answer.headers["Location"] == f"/status/{body['request_id']}"


@pytest.mark.parametrize("priority", ["HIGH", "MEDIUM", "LOW"])
def test_every_priority_is_taken(client: FlaskClient, priority: str) -> None:
    assert client.post("/ingest", json={"ids": [1], "priority": priority}).status_code == 200


@pytest.mark.parametrize("ids", [[1], [1_000_000_007], [2.0], [7, 7, 7], [1, 2.0, 1e3]])
def test_ids_within_the_limits_are_taken_as_they_are(client: FlaskClient, ids: list[Any]) -> None:
    """A float without fraction is an integer in JSON; repetitions are kept."""
    where = client.post("/ingest", json={"ids": ids, "priority": "LOW"}).headers["Location"]

    (batch,) = client.get(where).get_json()["batches"]
    assert batch["ids"] == ids
    assert set(map(type, batch["ids"])) == {int}


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json;charset=UTF-8", "APPLICATION/JSON", None],
)
def test_json_is_recognised_by_any_spelling_and_assumed_without_one(
    client: FlaskClient, content_type: str | None
) -> None:
    body = b'{"ids":[1],"priority":"LOW"}'
    assert client.post("/ingest", data=body, content_type=content_type).status_code == 200


# Idempotency


def test_the_same_key_and_body_get_the_first_answer_again(client: FlaskClient) -> None:
    first = client.post("/ingest", json=MAPPINGS, headers={"Idempotency-Key": "k"})
    again = client.post("/ingest", json=MAPPINGS, headers={"Idempotency-Key": "k"})

    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.status_code, again.data) == (200, first.data)
    assert again.headers["Location"] == first.headers["Location"]
    assert client.get("/health").get_json()["active_requests"] == 1


@pytest.mark.parametrize(
    "other", [IDS | {"priority": "LOW"}, IDS | {"ids": [1, 2, 3]}, MAPPINGS], ids=str
)
def test_the_same_key_with_another_body_is_refused(
    client: FlaskClient, other: dict[str, Any]
) -> None:
    client.post("/ingest", json=IDS, headers={"Idempotency-Key": "k"})
    answer = client.post("/ingest", json=other, headers={"Idempotency-Key": "k"})

    assert answer.status_code == 422
    assert answer.get_json()["type"] == "/problems/idempotency-mismatch"
    assert client.get("/health").get_json()["active_requests"] == 1


def test_how_a_body_is_written_does_not_make_it_another(client: FlaskClient) -> None:
    """Blanks and the order of keys carry no meaning, so a repeated request may differ in them."""
    client.post("/ingest", data=b'{"ids":[2],"priority":"LOW"}', headers={"Idempotency-Key": "k"})
    again = client.post(
        "/ingest", data=b'{ "priority": "LOW", "ids": [2.0] }', headers={"Idempotency-Key": "k"}
    )
    assert again.headers["Idempotency-Replayed"] == "true"


def test_requests_without_a_key_are_never_taken_for_each_other(client: FlaskClient) -> None:
    first, second = (client.post("/ingest", json=IDS).get_json() for _ in range(2))
    assert first != second


@pytest.mark.parametrize(("age", "replayed"), [(-1, True), (0, False)])
def test_a_key_is_forgotten_after_24_hours(still: Api, age: int, replayed: bool) -> None:
    first = still.client.post("/ingest", json=IDS, headers={"Idempotency-Key": "k"})
    still.advance(24 * 3600 + age)
    later = still.client.post("/ingest", json=IDS, headers={"Idempotency-Key": "k"})

    assert ("Idempotency-Replayed" in later.headers) == replayed
    assert (later.get_json() == first.get_json()) == replayed


def test_fifty_requests_with_one_key_at_once_store_one_ingestion(client: FlaskClient) -> None:
    app, start, answers = client.application, threading.Barrier(50), []

    def post() -> None:
        one = app.test_client()
        start.wait()
        answers.append(one.post("/ingest", json=IDS, headers={"Idempotency-Key": "k"}).data)

    threads = [threading.Thread(target=post) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(answers) == 50
    assert len(set(answers)) == 1
    health = client.get("/health").get_json()
    assert (health["active_requests"], health["queued_items"]) == (1, 4)


def test_a_refused_request_does_not_use_up_its_key(client: FlaskClient) -> None:
    bad = client.post("/ingest", json={"ids": []}, headers={"Idempotency-Key": "k"})
    good = client.post("/ingest", json=IDS, headers={"Idempotency-Key": "k"})
    assert (bad.status_code, good.status_code) == (400, 200)


# Following


def test_nothing_has_started_right_after_the_post(api: Api) -> None:
    found = api.status(api.ingest([1, 2, 3, 4], "HIGH"))

    batches = found.pop("batches")
    assert [(each["ids"], each["status"]) for each in batches] == [
        ([1, 2, 3], "yet_to_start"),
        ([4], "yet_to_start"),
    ]
    assert all(set(each) == {"batch_id", "ids", "status"} for each in batches)
    assert all(UUID4.fullmatch(each["batch_id"]) for each in batches)
    found.pop("ingestion_id")
    assert found == {
        "status": "yet_to_start",
        "batches_total": 2,
        "progress": 0,
        "priority": "HIGH",
        "created_at": "2026-01-01T12:00:00.000Z",
        "started_at": None,
        "finished_at": None,
        "outcome": None,
        "counts": {
            "total": 4,
            "queued": 4,
            "in_flight": 0,
            "succeeded": 0,
            "failed": 0,
            "cancelled": 0,
        },
        "queue": {"position": 1, "batches_ahead": 0},
        "eta": {
            "next_start_at": "2026-01-01T12:00:00.450Z",
            "finish_at": "2026-01-01T12:00:06.450Z",
            "latest_finish_at": None,
        },
        "why_waiting": {
            "code": "settling",
            "message": "Requests posted together are put in order.",
            "until": "2026-01-01T12:00:00.450Z",
        },
    }


def test_ids_go_from_yet_to_start_over_triggered_to_completed(api: Api) -> None:
    """Between two batches the whole is still triggered."""
    ingestion_id = api.ingest([1, 2, 3, 4])
    seen = []
    for seconds in (0, 0.5, 3, 2, 5):
        api.advance(seconds)
        found = api.status(ingestion_id)
        states = [batch["status"] for batch in found["batches"]]
        seen.append((found["status"], *states, found["progress"]))

    assert seen == [
        ("yet_to_start", "yet_to_start", "yet_to_start", 0),
        ("triggered", "triggered", "yet_to_start", 0),
        ("triggered", "completed", "yet_to_start", 75),
        ("triggered", "completed", "triggered", 75),
        ("completed", "completed", "completed", 100),
    ]
    assert found["started_at"] == "2026-01-01T12:00:00.450Z"
    assert found["finished_at"] == "2026-01-01T12:00:06.450Z"
    assert found["outcome"] == "succeeded"


def test_mappings_go_from_pending_over_in_progress_to_completed(api: Api) -> None:
    request_id = api.ingest_mappings(6)
    seen = []
    for seconds in (0, 0.5, 3, 5):
        api.advance(seconds)
        found = api.status(request_id)
        states = [batch["status"] for batch in found["details"]["batches"]]
        seen.append((found["status"], *states, found["progress"], found["processed_mappings"]))

    assert seen == [
        ("pending", "pending", "pending", 0, 0),
        ("in_progress", "in_progress", "pending", 0, 0),
        ("in_progress", "completed", "pending", 83, 5),
        ("completed", "completed", "completed", 100, 6),
    ]
    assert found["request_id"] == request_id
    assert (found["total_mappings"], found["failed_mappings"]) == (6, 0)
    assert [batch["mapping_ids"] for batch in found["details"]["batches"]] == [
        ["m0", "m1", "m2", "m3", "m4"],
        ["m5"],
    ]


def test_failed_items_are_counted_and_do_not_keep_the_rest_from_completing(api: Api) -> None:
    api.upstream.reply = half
    request_id = api.ingest_mappings(5)
    api.advance(5)

    found = api.status(request_id)
    assert (found["status"], found["outcome"]) == ("completed", "partially_failed")
    assert (found["processed_mappings"], found["failed_mappings"]) == (3, 2)


def test_an_ingestion_has_failed_only_if_every_item_has(api: Api) -> None:
    api.upstream.reply = lambda batch: [Outcome(succeeded=False, error="no")] * len(batch.items)
    ingestion_id = api.ingest([1, 2])
    api.advance(5)

    found = api.status(ingestion_id)
    assert (found["status"], found["outcome"], found["progress"]) == ("failed", "failed", 100)
    assert found["batches"][0]["status"] == "failed"


def test_the_counts_sum_to_the_total_and_progress_never_falls_at_every_moment(api: Api) -> None:
    api.upstream.reply = half
    ingestion_id, last = api.ingest([*range(1, 8)]), 0
    for _ in range(30):
        found = api.status(ingestion_id)
        counts = found["counts"]
        assert counts.pop("total") == sum(counts.values()) == 7
        assert last <= found["progress"] <= 100
        assert (found["progress"] == 100) == (found["outcome"] is not None)
        last = found["progress"]
        api.advance(0.5)
    assert last == 100


def test_an_ingestion_can_be_named_in_the_query_string(client: FlaskClient) -> None:
    ingestion_id = client.post("/ingest", json=IDS).get_json()["ingestion_id"]

    by_path = client.get(f"/status/{ingestion_id}")
    by_query = client.get("/status", query_string={"ingestion_id": ingestion_id})
    assert by_query.get_json() == by_path.get_json()


def test_a_status_that_names_nobody_is_refused(client: FlaskClient) -> None:
    answer = client.get("/status")
    assert answer.status_code == 400
    assert answer.get_json()["errors"][0]["pointer"] == "/ingestion_id"


def test_batches_are_paged_by_offset_and_limit(client: FlaskClient) -> None:
    body = {"ids": [*range(1, 11)], "priority": "LOW"}
    where = client.post("/ingest", json=body).headers["Location"]
    everything = client.get(where).get_json()["batches"]

    page = client.get(where, query_string={"offset": 1, "limit": 2}).get_json()
    assert page["batches"] == everything[1:3]
    assert page["batches_total"] == 4
    assert client.get(where, query_string={"offset": 3}).get_json()["batches"] == everything[3:]
    assert client.get(where, query_string={"offset": 4}).get_json()["batches"] == []
    assert client.get(where, query_string={"offset": 10**15}).get_json()["batches"] == []


def test_at_most_ten_thousand_batches_are_listed(client: FlaskClient) -> None:
    body = {"ids": [1] * 30_001, "priority": "LOW"}
    found = client.get(client.post("/ingest", json=body).headers["Location"]).get_json()
    assert (len(found["batches"]), found["batches_total"]) == (10_000, 10_001)


@pytest.mark.parametrize(
    "path",
    [f"/status/{UNKNOWN}", f"/status?ingestion_id={UNKNOWN}", f"/status/{UNKNOWN}/results"],
)
def test_an_unknown_id_gets_the_one_text_that_clients_look_for(
    client: FlaskClient, path: str
) -> None:
    answer = client.get(path)
    body = answer.get_json()

    assert answer.status_code == 404
    assert body["detail"] == body["error"] == "Ingestion ID not found"
    assert body["type"] == "/problems/not-found"


# Results


def test_the_results_of_ids_are_listed_item_by_item(api: Api) -> None:
    api.upstream.reply = lambda _: [
        Outcome(succeeded=True, processed_data={"any": "thing"}),
        Outcome(succeeded=False, error="no such id", status_code=404),
    ]
    ingestion_id = api.ingest([7, 8])
    api.advance(5)

    both = {"timestamp": "2026-01-01T12:00:01.450Z", "attempts": 1}
    assert api.results(ingestion_id) == {
        "ingestion_id": ingestion_id,
        "status": "completed",
        "total_ids": 2,
        "processed_ids": 1,
        "failed_ids": 1,
        "complete": True,
        "results": [
            {
                "id": 7,
                "status": "success",
                "processed_data": {"any": "thing"},
                "status_code": None,
                **both,
            },
            {"id": 8, "status": "failed", "error": "no such id", "status_code": 404, **both},
        ],
    }


def test_the_results_of_mappings_use_the_words_of_their_clients(api: Api) -> None:
    request_id = api.ingest_mappings(1)
    api.advance(5)

    assert api.results(request_id) == {
        "request_id": request_id,
        "status": "completed",
        "total_mappings": 1,
        "processed_mappings": 1,
        "failed_mappings": 0,
        "complete": True,
        "results": [
            {
                "mapping_id": "m0",
                "status": "success",
                "processed_data": {"got": {"id": "m0", "source": "s", "target": "t"}},
                "timestamp": "2026-01-01T12:00:01.450Z",
                "attempts": 1,
                "status_code": None,
            }
        ],
    }


def test_what_is_settled_so_far_can_be_had_while_the_rest_runs(api: Api) -> None:
    ingestion_id = api.ingest([1, 2, 3, 4])
    before = api.results(ingestion_id)
    api.advance(3)
    during = api.results(ingestion_id)

    assert (before["complete"], before["results"]) == (False, [])
    assert (during["complete"], [each["id"] for each in during["results"]]) == (False, [1, 2, 3])


def test_results_can_be_narrowed_to_an_outcome_and_paged(api: Api) -> None:
    api.upstream.reply = half
    ingestion_id = api.ingest([*range(1, 10)])
    api.advance(30)

    def ids(**query: Any) -> list[int]:
        return [each["id"] for each in api.results(ingestion_id, **query)["results"]]

    assert ids() == [*range(1, 10)]
    assert ids(outcome="failed") == [2, 5, 8]
    assert ids(outcome="succeeded") == [1, 3, 4, 6, 7, 9]
    assert ids(offset=2, limit=3) == [3, 4, 5]
    assert ids(outcome="failed", offset=1, limit=1) == [5]
    assert ids(offset=9) == []


# Around it


def test_the_greeting_is_exact(client: FlaskClient) -> None:
    assert client.get("/").get_json() == {"message": "Ingestion API is live!"}


def test_health_counts_the_ingestions_that_are_not_finished(api: Api) -> None:
    api.ingest([1, 2, 3, 4])
    api.ingest_mappings(1, "LOW")
    busy = api.client.get("/health").get_json()
    api.advance(20)
    idle = api.client.get("/health").get_json()

    assert (busy["active_requests"], busy["queued_items"]) == (2, 5)
    assert (idle["active_requests"], idle["queued_items"]) == (0, 0)
    del idle["worker"]
    assert idle == {
        "status": "healthy",
        "timestamp": "2026-01-01T12:00:20.000Z",
        "active_requests": 0,
        "queued_items": 0,
        "queue": "running",
        "reason": None,
        "until": None,
        "version": VERSION,
    }


def test_the_process_is_live_without_its_worker_and_not_ready(client: FlaskClient) -> None:
    assert client.get("/health").get_json()["worker"] == "stopped"
    assert client.get("/health/live").get_json() == {"status": "live"}
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.get_json()["type"] == "/problems/not-ready"


def test_the_service_is_ready_with_its_worker(settings: Settings) -> None:
    parts = build(settings)
    parts.worker.start()
    client = create_app(settings, parts).test_client()
    answer, health = client.get("/health/ready"), client.get("/health").get_json()
    parts.worker.stop()

    assert (answer.status_code, answer.get_json()) == (200, {"status": "ready"})
    assert health["worker"] == "running"


@pytest.mark.parametrize("path", ROUTES[1:])
def test_a_trailing_slash_changes_nothing(client: FlaskClient, path: str) -> None:
    plain, slashed = client.get(path), client.get(path + "/")
    assert (slashed.status_code, slashed.data) == (plain.status_code, plain.data)


def test_a_trailing_slash_changes_nothing_on_the_way_of_an_ingestion(client: FlaskClient) -> None:
    posted = client.post("/ingest/", json=IDS)
    where = posted.headers["Location"]

    assert posted.status_code == 200
    assert client.get(where + "/").data == client.get(where).data
    assert client.get(where + "/results/").data == client.get(where + "/results").data
    by_query = client.get("/status/", query_string=posted.get_json())
    assert by_query.data == client.get(where).data
    where = where.replace("status", "ingestions")
    for end in ("/cancel", "/cancel/"):
        assert client.post(where + end).status_code == 200
    for end in ("", "/"):
        assert client.patch(where + end, json={"priority": "LOW"}).status_code == 409
    for end in ("/retry", "/retry/"):
        assert client.post(where + end).status_code == 409


@pytest.mark.parametrize("path", ROUTES)
def test_head_answers_like_get_without_the_body(client: FlaskClient, path: str) -> None:
    get, head = client.get(path), client.head(path)
    assert (head.status_code, head.data) == (get.status_code, b"")
    assert head.content_type == get.content_type
    assert head.content_length == get.content_length


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/ingest", {"POST", "OPTIONS"}),
        ("/status/x", {"GET", "HEAD", "OPTIONS"}),
        ("/queue", {"GET", "HEAD", "PATCH", "OPTIONS"}),
        ("/ingestions/x", {"PATCH", "OPTIONS"}),
    ],
)
def test_options_tell_what_is_allowed(client: FlaskClient, path: str, allowed: set[str]) -> None:
    answer = client.options(path)
    assert (answer.status_code, answer.data) == (200, b"")
    assert set(answer.headers["Allow"].split(", ")) == allowed
    assert "Content-Type" not in answer.headers


def test_a_harmless_request_id_is_taken_over(client: FlaskClient) -> None:
    given = "trace-1.2:3_" + "x" * 116
    answer = client.get("/health", headers={"X-Request-ID": given})
    assert answer.headers["X-Request-ID"] == given


def test_a_request_without_an_id_gets_one_of_its_own(client: FlaskClient) -> None:
    first, second = (client.get("/health").headers["X-Request-ID"] for _ in range(2))
    assert uuid.UUID(first) != uuid.UUID(second)


def test_every_answer_forbids_guessing_its_type_and_keeping_it(client: FlaskClient) -> None:
    for path in ("/health", "/nowhere", "/queue", "/ingestions", "/rate-proof"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"


# Limits


class TestAFullQueue:
    """A queue that takes ten items."""

    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(max_queued_items=10)

    def test_retry_after_is_the_second_in_which_there_is_room(self, api: Api) -> None:
        """Nine wait; a second request of four needs three to leave: one batch, so 0.4 s."""
        api.ingest([*range(1, 10)])
        refused = api.client.post("/ingest", json=IDS)

        assert refused.status_code == 503
        assert refused.get_json()["type"] == "/problems/queue-full"
        assert refused.headers["Retry-After"] == "1"
        assert api.client.get("/health").get_json()["active_requests"] == 1

    @pytest.mark.parametrize(("items", "seconds"), [(4, 1), (5, 6), (7, 6), (8, 11), (10, 11)])
    def test_retry_after_is_exact(self, api: Api, items: int, seconds: int) -> None:
        """A second earlier there is no room yet, at the instant there is."""
        api.ingest([*range(1, 10)])
        body = {"ids": [*range(1, items + 1)], "priority": "LOW"}
        refused = api.client.post("/ingest", json=body)
        assert refused.headers["Retry-After"] == str(seconds)

        api.advance(seconds - 1)
        assert api.client.post("/ingest", json=body).status_code == 503
        api.advance(1)
        assert api.client.post("/ingest", json=body).status_code == 200

    def test_while_it_is_paused_nobody_knows_when_there_is_room(self, api: Api) -> None:
        """So the client is told to look again in a minute, and why."""
        api.ingest([*range(1, 10)])
        api.client.post("/queue/pause")
        refused = api.client.post("/ingest", json=IDS)

        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "60")
        assert "paused" in refused.get_json()["detail"]

    def test_what_was_accepted_before_is_answered_again(self, api: Api) -> None:
        """A retry with its key needs no room; the same key for something else is still refused."""
        headers = {"Idempotency-Key": "k"}
        body = {"ids": [*range(1, 10)], "priority": "LOW"}
        first = api.client.post("/ingest", json=body, headers=headers)
        again = api.client.post("/ingest", json=body, headers=headers)
        other = api.client.post("/ingest", json=IDS, headers=headers)

        assert (again.status_code, again.get_json()) == (200, first.get_json())
        assert again.headers["Idempotency-Replayed"] == "true"
        assert other.status_code == 422

    def test_a_request_that_can_never_fit_is_not_sent_to_wait(self, client: FlaskClient) -> None:
        answer = client.post("/ingest", json={"ids": [1] * 11, "priority": "LOW"})
        assert answer.status_code == 400
        assert answer.get_json()["errors"][0]["pointer"] == "/ids"


class TestASmallItemLimit:
    """A service that takes three items a request."""

    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(max_items=3)

    def test_the_limit_itself_is_taken(self, client: FlaskClient) -> None:
        body = {"ids": [1, 2, 3], "priority": "LOW"}
        assert client.post("/ingest", json=body).status_code == 200

    def test_one_item_more_is_refused_with_both_numbers(self, client: FlaskClient) -> None:
        answer = client.post("/ingest", json=IDS)
        assert answer.status_code == 400
        assert answer.get_json()["detail"] == "/ids: This must have from 1 to 3 elements and has 4."

    def test_the_document_tells_the_limit(self, client: FlaskClient) -> None:
        schemas = client.get("/openapi.json").get_json()["components"]["schemas"]
        assert schemas["IdsRequest"]["properties"]["ids"]["maxItems"] == 3
        assert schemas["MappingsRequest"]["properties"]["mappings"]["maxItems"] == 3
