"""The routes around it, and what holds for every answer."""

import uuid

import pytest
from flask.testing import FlaskClient

from ingest_service.app import build, create_app
from ingest_service.settings import Settings
from ingest_service.version import VERSION
from tests.support import Api
from tests.web.support import IDS

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
    # How these are depends on what runs, see below.
    del idle["worker"], idle["workers"]
    assert idle == {
        "status": "healthy",
        "timestamp": "2026-01-01T12:00:20.000Z",
        "active_requests": 0,
        "queued_items": 0,
        "queue": "running",
        "reason": None,
        "until": None,
        "trouble": None,
        "keys": None,
        "version": VERSION,
        "max_items": 1_000_000,
        "max_body": 67_108_864,
    }


@pytest.mark.embedded
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
        ("/ingestions/x", {"PATCH", "DELETE", "OPTIONS"}),
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
    for path in ("/health", "/nowhere", "/rate-proof"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
