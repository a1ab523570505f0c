"""What several of these tests use."""

import json
from typing import Any, cast

from flask.testing import FlaskClient
from hypothesis import HealthCheck
from werkzeug.test import TestResponse

JSON = "application/json"


VALID = b'{"ids":[1],"priority":"LOW"}'


PRIORITIES = "The priority must be one of HIGH, MEDIUM, LOW."


def stored(client: FlaskClient) -> tuple[int, int]:
    """Return how many ingestions and items are waiting."""
    health = client.get("/health").get_json()
    return health["active_requests"], health["queued_items"]


def post(client: FlaskClient, body: object, **headers: str) -> TestResponse:
    """Post bytes as they are and anything else as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/ingest", data=data, content_type=JSON, headers=headers)


def refused(answer: TestResponse, status: int, slug: str) -> dict[str, Any]:
    """Assert that `answer` is a problem of the kind `slug` in its full shape; return it."""
    problem = cast(dict[str, Any], json.loads(answer.data))
    assert (answer.status_code, problem["type"]) == (status, f"/problems/{slug}"), problem
    assert answer.content_type == "application/problem+json"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"] == problem["error"]
    assert " " in problem["detail"]
    assert problem["detail"].endswith((".", "?", "found"))
    assert len(answer.data) < 20_000
    return problem


def send(client: FlaskClient, body: bytes, chunked: bool) -> TestResponse:
    """Post `body`; if `chunked`, as a server hands on one of unknown length."""
    if not chunked:
        return post(client, body)
    environ = {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    return client.post("/ingest", data=body, content_type=JSON, environ_overrides=environ)


#: Nothing is stored, so the examples of a test may share a service.
SHARED = HealthCheck.function_scoped_fixture
