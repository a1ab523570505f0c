"""The OpenAPI document is true: about routes, problems, examples and real answers."""

import inspect
import re
from collections.abc import Iterator
from typing import Any, cast

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from openapi_spec_validator import OpenAPIV31SpecValidator
from werkzeug.test import TestResponse

from ingest_service.domain.model import Batch, Outcome
from ingest_service.errors import StorageUnavailable
from ingest_service.settings import Settings
from ingest_service.web.problems import PROBLEMS
from tests.support import Api, serving

#: What people look at in a browser.
PAGES = {"/docs", "/redoc"}
MAPPINGS = [{"id": "a", "source": "s", "target": "t"}]


@pytest.fixture
def still() -> Iterator[Api]:
    """Give a service with a small queue, whose worker rests until time is advanced."""
    with serving(Settings(max_queued_items=10, max_body=10_000), threaded=False) as served:
        yield served


@pytest.fixture
def client(still: Api) -> FlaskClient:
    """Give a client of `still`."""
    return still.client


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    """Return the document."""
    return cast(dict[str, Any], client.get("/openapi.json").get_json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method and description of every operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def contents(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield everything that has a schema and examples, and what it is called."""
    for path, method, operation in operations(document):
        for media_type, content in operation.get("requestBody", {"content": {}})["content"].items():
            yield f"{method} {path} {media_type}", content
        for status, response in operation["responses"].items():
            for media_type, content in response["content"].items():
                yield f"{method} {path} {status} {media_type}", content


def errors(document: dict[str, Any], schema: dict[str, Any], value: object) -> list[str]:
    """Return what is wrong with `value`, formats included."""
    rooted = {"components": document["components"], **schema}
    checker = Draft202012Validator(rooted, format_checker=FormatChecker())
    return [error.message for error in checker.iter_errors(value)]


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_every_route_is_documented(client: FlaskClient, document: dict[str, Any]) -> None:
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in client.application.url_map.iter_rules()
        if rule.rule not in PAGES and not re.search("asset|^dashboard", rule.endpoint)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, method, _ in operations(document)} == routes


def test_every_operation_has_a_name_a_tag_and_an_explanation(document: dict[str, Any]) -> None:
    names = []
    for _, _, operation in operations(document):
        names.append(operation["operationId"])
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"][0] in [tag["name"] for tag in document["tags"]]
        assert all(parameter["description"] for parameter in operation["parameters"])
    assert len(set(names)) == len(names)


def test_what_is_documented_is_what_the_views_read(client: FlaskClient) -> None:
    """The problems of queries and bodies in the document follow from these."""
    for view in client.application.view_functions.values():
        documented = getattr(view, "__operation__", None)
        if documented is None:
            continue
        source = inspect.getsource(view).partition('"""')[2]
        queries = re.findall(r"parse_query\((\w+)", source)
        bodies = re.findall(r"parse_body\((\w+)", source)
        if "parse_submission(" in source:
            bodies = ["IdsRequest", "MappingsRequest"]
        assert queries == ([documented.query.__name__] if documented.query else [])
        assert [schema.__name__ for schema in documented.bodies] == bodies


@pytest.mark.parametrize("slug", PROBLEMS)
def test_every_problem_is_documented_and_has_a_page(
    client: FlaskClient, document: dict[str, Any], slug: str
) -> None:
    types = document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
    assert f"/problems/{slug}" in types
    page = client.get(f"/problems/{slug}")
    assert page.status_code == 200
    assert set(page.get_json()) == {"type", "title", "status", "explanation"}
    assert page.get_json()["type"] == f"/problems/{slug}"


def test_every_example_keeps_its_own_schema(document: dict[str, Any]) -> None:
    checked = 0
    for where, content in contents(document):
        assert content["examples"], where
        for name, example in content["examples"].items():
            assert errors(document, content["schema"], example["value"]) == [], f"{where} {name}"
            checked += 1
    assert checked > 20


def test_every_example_of_a_request_is_accepted(
    client: FlaskClient, document: dict[str, Any]
) -> None:
    posted = client.post("/ingest", json={"ids": [1], "priority": "LOW"}).get_json()
    accepted = []
    for path, method, operation in operations(document):
        body = operation.get("requestBody", {"content": {}})["content"]
        for example in body.get("application/json", {"examples": {}})["examples"].values():
            where, value = path.format(**posted), example["value"]
            # The id in the example is nobody's.
            value |= posted.keys() & value.keys() and posted
            assert client.open(where, method=method, json=value).status_code == 200
            accepted.append(path)
    assert sorted(accepted) == [
        "/ingest",
        "/ingest",
        "/ingestions/{ingestion_id}",
        "/queue",
        "/queue/pause",
        "/status",
    ]


def test_only_a_body_that_may_be_left_out_is_optional(document: dict[str, Any]) -> None:
    bodies = [
        (path, operation["requestBody"]["required"])
        for path, _, operation in operations(document)
        if "requestBody" in operation
    ]
    assert dict(bodies) == {
        "/ingest": True,
        "/ingestions/{ingestion_id}": True,
        "/queue": True,
        "/queue/pause": False,
        "/status": False,
    }


@pytest.mark.parametrize(
    "body",
    [
        {"ids": [0], "priority": "LOW"},
        {"ids": [1_000_000_008], "priority": "LOW"},
        {"ids": ["1"], "priority": "LOW"},
        {"ids": [], "priority": "LOW"},
        {"ids": [1], "priority": "low"},
        {"ids": [1], "priority": "LOW", "x": 1},
        {"ids": [1], "mappings": MAPPINGS, "priority": "LOW"},
        {"mappings": [{"id": "", "source": "s", "target": "t"}], "priority": "LOW"},
        {"mappings": [{"id": "a", "source": "s"}], "priority": "LOW"},
        {"mappings": [MAPPINGS[0] | {"transformation": []}], "priority": "LOW"},
        {"ids": [1], "mappings": [], "priority": "LOW"},
    ],
    ids=str,
)
def test_what_the_service_refuses_the_schema_refuses_too(
    client: FlaskClient, document: dict[str, Any], body: dict[str, Any]
) -> None:
    """So a client that is generated from the document notices before it asks."""
    content = document["paths"]["/ingest"]["post"]["requestBody"]["content"]["application/json"]
    assert client.post("/ingest", json=body).status_code == 400
    assert errors(document, content["schema"], body)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("patch", "/ingestions/{ingestion_id}", {}),
        ("patch", "/ingestions/{ingestion_id}", {"priority": "low"}),
        ("patch", "/ingestions/{ingestion_id}", {"priority": "LOW", "x": 1}),
        ("patch", "/queue", {}),
        ("patch", "/queue", {"interval_seconds": -1}),
        ("patch", "/queue", {"interval_seconds": "1"}),
        ("patch", "/queue", {"interval_seconds": True}),
        ("patch", "/queue", {"interval_seconds": 86_401}),
        ("post", "/queue/pause", {"reason": 1}),
        ("post", "/queue/pause", {"reason": None}),
        ("post", "/queue/pause", {"reason": "x" * 1_025}),
        ("post", "/queue/pause", {"x": 1}),
        ("post", "/queue/pause", []),
        ("get", "/status", {}),
        ("get", "/status", {"ingestion_id": None}),
        ("get", "/status", {"ingestion_id": None, "request_id": None}),
        ("get", "/status", {"request_id": 1}),
    ],
    ids=str,
)
def test_the_schema_refuses_the_same_changes_as_the_service(
    client: FlaskClient, document: dict[str, Any], method: str, path: str, body: dict[str, Any]
) -> None:
    operation = document["paths"][path][method]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    where = path.format(ingestion_id="x")
    assert client.open(where, method=method.upper(), json=body).status_code == 400
    assert errors(document, schema, body)


def half(batch: Batch) -> list[Outcome]:
    """Let the first item of a batch fail."""
    failed = Outcome(succeeded=False, error="no")
    return [failed, *[Outcome(succeeded=True, processed_data=[1])] * (len(batch.items) - 1)]


def check(document: dict[str, Any], path: str, answer: TestResponse) -> None:
    """Assert that an answer of the route `path` is documented as it is."""
    method = answer.request.method.lower()
    response = document["paths"][path][method]["responses"][str(answer.status_code)]
    if answer.status_code == 304:
        assert (answer.data, response["content"]) == (b"", {})
        return
    content = response["content"][answer.mimetype]
    value = answer.get_json() if answer.is_json else answer.text
    assert errors(document, content["schema"], value) == [], answer.text
    for header in ("ETag", "Retry-After", "Location", "Idempotency-Replayed"):
        assert header not in answer.headers or header in response.get("headers", {})


def test_real_answers_keep_their_schemas(still: Api, document: dict[str, Any]) -> None:
    """At every stage of an ingestion; a field that is not documented would be an error."""
    still.upstream.reply = half
    get, post = still.client.get, still.client.post
    key = {"Idempotency-Key": "k"}
    first = post("/ingest", json={"ids": [1, 2, 3, 4], "priority": "LOW"}, headers=key)
    second = post("/ingest", json={"mappings": MAPPINGS, "priority": "HIGH"})
    check(document, "/ingest", first)
    check(document, "/ingest", second)
    dry = post("/ingest?dry_run=true", json={"mappings": MAPPINGS, "priority": "HIGH"})
    check(document, "/ingest", dry)
    for _ in range(4):
        for where in (first.headers["Location"], second.headers["Location"]):
            status = get(where)
            check(document, "/status/{ingestion_id}", status)
            known = {"If-None-Match": status.headers["ETag"]}
            check(document, "/status/{ingestion_id}", get(where, headers=known))
            for query in ("", "?format=ndjson", "?format=csv", "?outcome=failed"):
                results = get(f"{where}/results{query}")
                check(document, "/status/{ingestion_id}/results", results)
            by_query = "/status?ingestion_id=" + where.rpartition("/")[2]
            check(document, "/status", get(by_query))
            check(document, "/status", get(by_query, headers=known))
        for path in ("/queue", "/ingestions", "/rate-proof", "/health"):
            check(document, path, get(path))
        still.advance(4)
    for path in ("/", "/health/live", "/health/ready", "/openapi.json"):
        check(document, path, get(path))
    check(document, "/problems/{slug}", get("/problems/conflict"))

    check(document, "/ingest", post("/ingest", data=b"{"))
    check(document, "/ingest", post("/ingest", json={"ids": [0] * 10}))
    check(document, "/ingest", post("/ingest", data=b"", content_type="text/plain"))
    check(document, "/ingest", post("/ingest", data=b" " * 10_001))
    check(document, "/ingest", post("/ingest", json={"ids": [9], "priority": "LOW"}, headers=key))
    again = post("/ingest", json={"ids": [1, 2, 3, 4], "priority": "LOW"}, headers=key)
    check(document, "/ingest", again)
    post("/ingest", json={"ids": [1] * 10, "priority": "LOW"})
    check(document, "/ingest", post("/ingest", json={"ids": [1], "priority": "LOW"}))
    check(document, "/status/{ingestion_id}", get("/status/x"))
    check(document, "/status/{ingestion_id}", get("/status/x?offset=x"))
    check(document, "/status/{ingestion_id}/results", get("/status/x/results"))
    check(document, "/status", get("/status"))
    check(document, "/problems/{slug}", get("/problems/x"))
    check(document, "/ingestions", get("/ingestions?cursor=x"))
    check(document, "/rate-proof", get("/rate-proof?from=x"))


@pytest.mark.embedded
def test_a_broken_disk_is_documented_wherever_something_is_read(
    still: Api, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = "/status/" + still.ingest([1])
    still.advance(2)

    def broken(*_: object) -> None:
        raise StorageUnavailable("The disk is broken.")

    for method in ("find", "results", "finished", "rate_proof"):
        monkeypatch.setattr(still.parts.journal, method, broken)
    for path, route in (
        ("/status/x", "/status/{ingestion_id}"),
        ("/status?ingestion_id=x", "/status"),
        (f"{where}/results", "/status/{ingestion_id}/results"),
        ("/ingestions", "/ingestions"),
        ("/rate-proof", "/rate-proof"),
    ):
        answer = still.client.get(path)
        assert answer.status_code == 503
        check(document, route, answer)


def test_a_stranger_is_documented_everywhere_but_for_the_health(
    still: Api, document: dict[str, Any]
) -> None:
    for path, method, operation in operations(document):
        assert ("403" in operation["responses"]) is not path.startswith("/health")
        answer = still.client.open(path, method=method, headers={"Host": "evil.example"})
        if answer.status_code == 403:
            check(document, path, answer)


def test_a_body_that_is_too_large_is_documented_everywhere(
    client: FlaskClient, document: dict[str, Any]
) -> None:
    """Those that take none included."""
    for path, method, _ in operations(document):
        answer = client.open(path, method=method, data=b" " * 10_001)
        assert answer.status_code == 413
        check(document, path, answer)


def test_what_the_server_refuses_by_itself_is_documented_everywhere(
    client: FlaskClient, document: dict[str, Any]
) -> None:
    """A framing that is not read, a request that comes too slowly, too many of them at once."""
    for path, method, operation in operations(document):
        answer = client.open(path, method=method, headers={"Transfer-Encoding": "gzip"})
        assert answer.get_json()["type"] == "/problems/malformed-request"
        check(document, path, answer)
        for status, slug in (("408", "request-timeout"), ("503", "not-ready")):
            content = operation["responses"][status]["content"]["application/problem+json"]
            assert slug in content["examples"], (path, method)


@pytest.mark.parametrize(
    "body",
    [{"ids": [1, 2, 3, 4], "priority": "LOW"}, {"mappings": MAPPINGS, "priority": "LOW"}],
    ids=["ids", "mappings"],
)
def test_answers_to_changes_keep_their_schemas(
    still: Api, document: dict[str, Any], body: dict[str, Any]
) -> None:
    """Refusals included."""
    still.upstream.reply = half
    one, patch, retry = (
        "/ingestions/{ingestion_id}/cancel",
        "/ingestions/{ingestion_id}",
        "/ingestions/{ingestion_id}/retry",
    )
    client = still.client

    def change(path: str, ingestion_id: str, status: int, **rest: Any) -> None:
        method = "PATCH" if path == patch else "POST"
        answer = client.open(path.format(ingestion_id=ingestion_id), method=method, **rest)
        assert answer.status_code == status, answer.text
        check(document, path, answer)

    def post() -> str:
        return client.post("/ingest", json=body).headers["Location"].rpartition("/")[2]

    high = {"json": {"priority": "HIGH"}}
    first, second = post(), post()
    change(patch, first, 200, **high)
    still.advance(1)
    change(patch, first, 200, **high)
    change(one, second, 200)
    still.advance(20)
    for path, rest in ((one, {}), (patch, high)):
        change(path, first, 409, **rest)
    change(retry, second, 409)
    client.post("/ingest", json={"ids": [1] * 10, "priority": "LOW"})
    change(retry, first, 503)
    still.advance(20)
    change(retry, first, 200)
    for path, rest in ((one, {}), (patch, high), (retry, {})):
        change(path, "x", 404, **rest)
    change(patch, first, 400, json={})
    change(patch, first, 400, data=b"{")
    change(patch, first, 415, data=b"{}", content_type="text/plain")


def test_answers_about_the_queue_keep_their_schemas(still: Api, document: dict[str, Any]) -> None:
    """Paused, held, busy."""
    client = still.client
    still.upstream.reply = lambda _: [
        Outcome(succeeded=False, error="no", transient=True, retry_after=30.0)
    ]
    client.post("/ingest", json={"ids": [1], "priority": "LOW"})
    busy = False
    for method, path, status, rest in (
        ("POST", "/queue/pause", 200, {"json": {"reason": "x"}}),
        ("POST", "/queue/pause", 200, {}),
        ("POST", "/queue/pause", 400, {"json": {"reason": 1}}),
        ("POST", "/queue/pause", 415, {"data": b"x", "content_type": "text/plain"}),
        ("POST", "/queue/resume", 200, {}),
        ("PATCH", "/queue", 200, {"json": {"interval_seconds": 0.5}}),
        ("PATCH", "/queue", 400, {"json": {"interval_seconds": None}}),
        ("PATCH", "/queue", 415, {"data": b"x", "content_type": "text/plain"}),
    ):
        answer = client.open(path, method=method, **cast(dict[str, Any], rest))
        assert answer.status_code == status, answer.text
        check(document, path, answer)
        check(document, "/queue", client.get("/queue"))
        check(document, "/health", client.get("/health"))
        busy = busy or bool(client.get("/queue").get_json()["in_flight"])
        still.advance(0.3)
    still.advance(2)
    assert busy
    assert client.get("/queue").get_json()["state"] == "held"
    check(document, "/queue", client.get("/queue"))
