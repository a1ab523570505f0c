"""The OpenAPI document is true: about routes, problems, examples and real answers."""

import re
from collections.abc import Iterator
from typing import Any, cast

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from openapi_spec_validator import OpenAPIV31SpecValidator
from werkzeug.test import TestResponse

from ingest_service.model import Batch, Outcome
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
        (re.sub(r"<(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in client.application.url_map.iter_rules()
        if rule.rule not in PAGES and "asset" not in rule.endpoint
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
    body = document["paths"]["/ingest"]["post"]["requestBody"]["content"]["application/json"]
    assert len(body["examples"]) == 2
    for example in body["examples"].values():
        assert client.post("/ingest", json=example["value"]).status_code == 200


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
        {"mappings": [MAPPINGS[0] | {"transformation": None}], "priority": "LOW"},
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


def half(batch: Batch) -> list[Outcome]:
    """Let the first item of a batch fail."""
    failed = Outcome(succeeded=False, error="no")
    return [failed, *[Outcome(succeeded=True, processed_data=[1])] * (len(batch.items) - 1)]


def test_real_answers_keep_their_schemas(still: Api, document: dict[str, Any]) -> None:
    """At every stage of an ingestion; a field that is not documented would be an error."""
    still.upstream.reply = half

    def check(path: str, answer: TestResponse) -> None:
        method = answer.request.method.lower()
        responses = document["paths"][path][method]["responses"]
        content = responses[str(answer.status_code)]["content"][answer.content_type]
        assert errors(document, content["schema"], answer.get_json()) == [], answer.text

    get, post = still.client.get, still.client.post
    key = {"Idempotency-Key": "k"}
    first = post("/ingest", json={"ids": [1, 2, 3, 4], "priority": "LOW"}, headers=key)
    second = post("/ingest", json={"mappings": MAPPINGS, "priority": "HIGH"})
    check("/ingest", first)
    check("/ingest", second)
    for _ in range(4):
        for where in (first.headers["Location"], second.headers["Location"]):
            check("/status/{ingestion_id}", get(where))
            check("/status/{ingestion_id}/results", get(where + "/results"))
            check("/status", get("/status?ingestion_id=" + where.rpartition("/")[2]))
        still.advance(4)
    for path in ("/", "/health", "/health/live", "/health/ready", "/openapi.json"):
        check(path, get(path))
    check("/problems/{slug}", get("/problems/conflict"))

    check("/ingest", post("/ingest", data=b"{"))
    check("/ingest", post("/ingest", json={"ids": [0] * 10}))
    check("/ingest", post("/ingest", data=b"", content_type="text/plain"))
    check("/ingest", post("/ingest", data=b" " * 10_001))
    check("/ingest", post("/ingest", json={"ids": [9], "priority": "LOW"}, headers=key))
    post("/ingest", json={"ids": [1] * 10, "priority": "LOW"})
    check("/ingest", post("/ingest", json={"ids": [1], "priority": "LOW"}))
    check("/status/{ingestion_id}", get("/status/x"))
    check("/status/{ingestion_id}", get("/status/x?offset=x"))
    check("/status/{ingestion_id}/results", get("/status/x/results"))
    check("/status", get("/status"))
    check("/problems/{slug}", get("/problems/x"))
