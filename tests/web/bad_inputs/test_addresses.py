"""Paths, queries, methods and headers that are none."""

from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from tests.web.bad_inputs.support import JSON, SHARED, VALID, refused


@pytest.mark.parametrize(
    "path",
    [
        *("/status/x", "/status/%00", "/status/%ff", f"/status/{'a' * 10_000}", "/status/a%2Fb"),
        *("/status/8F14E45F-CEEA-467F-A8F5-1C2B3D4E5F60", "/status/' OR 1=1--", "/status/x/x"),
        *("/status/../health/x", "/status/{{7*7}}", "/status?ingestion_id=x", "/status/x/results"),
        *("/status?ingestion_id=", "/status?ingestion_id=%00", "/nowhere", "/ingest/x", "/HEALTH"),
        *("/problems/x", "/problems/", "/docs/x", "/docs/..%2f..%2fsetup.py", "/static/x"),
        *("/static/..%2f__init__.py", "/static/%00", "/static/", "/.env", "/favicon.ico", "/%0a"),
        *("/queue/x", "/ingestions/x/x", "/ingestions/x/cancel/x", "/rate-proof/x", "/Queue"),
    ],
)
def test_what_is_not_there_is_not_found(client: FlaskClient, path: str) -> None:
    refused(client.get(path), 404, "not-found")


def test_where_nothing_is_what_there_is_is_named(client: FlaskClient) -> None:
    problem = refused(client.get("/api/queue"), 404, "not-found")
    told = "There is nothing at this address; /openapi.json lists what there is."
    assert problem["detail"] == told


@pytest.mark.parametrize("route", ["/status/x", "/status/x/results", "/status?ingestion_id=x"])
@pytest.mark.parametrize(
    "query",
    [
        *("offset=-1", "offset=abc", "offset=", "offset=1.5", "offset=1e3", "offset=1_0"),
        *(
            "offset=%D9%A3",
            "offset=%00",
            "offset=+1",
            f"offset={10**15 + 1}",
            "offset=" + "9" * 5_000,
        ),
        *("limit=0", "limit=-1", "limit=abc", "limit=10001", "limit=", "limit=null"),
    ],
)
def test_a_page_that_cannot_be_is_refused(client: FlaskClient, route: str, query: str) -> None:
    answer = client.get(route + ("&" if "?" in route else "?") + query)
    problem = refused(answer, 400, "validation-error")
    assert [each["pointer"] for each in problem["errors"]] == ["/" + query.partition("=")[0]]


@pytest.mark.parametrize("name", ["%00", "a%00b", "%ff", "%ed%a0%80", "' OR 1=1--", "a" * 10_000])
@pytest.mark.parametrize(
    "route", ["/ingestions?submitted_by=", "/audit?key=", "/audit?format=ndjson&key="]
)
def test_nothing_is_found_of_who_cannot_be(client: FlaskClient, route: str, name: str) -> None:
    answer = client.get(route + name)
    assert answer.status_code == 200
    assert answer.text in (
        "",
        '{"ingestions":[],"next_cursor":null}',
        '{"entries":[],"next_cursor":null}',
    )


@pytest.mark.parametrize("query", ["ingestions?submitted_by=%00", "find?id=%00", "submit?x=%00"])
def test_no_page_fails_for_what_cannot_be(client: FlaskClient, query: str) -> None:
    assert client.get(f"/dashboard/{query}", follow_redirects=True).status_code in (200, 404)


@pytest.mark.parametrize("outcome", ["", "success", "FAILED", "queued", "%00"])
def test_results_of_an_unknown_outcome_are_refused(client: FlaskClient, outcome: str) -> None:
    answer = client.get(f"/status/x/results?outcome={outcome}")
    problem = refused(answer, 400, "validation-error")
    assert [each["pointer"] for each in problem["errors"]] == ["/outcome"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "TRACE", "BREW"])
def test_another_method_is_refused_with_those_allowed(client: FlaskClient, method: str) -> None:
    answer = client.open("/ingest", method=method)
    refused(answer, 405, "method-not-allowed")
    assert set(answer.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


READ = {"GET", "HEAD", "OPTIONS"}


ALLOWED = {
    "/ingestions": READ,
    "/ingestions/x": {"PATCH", "DELETE", "OPTIONS"},
    "/audit": READ,
    "/ingestions/x/cancel": {"POST", "OPTIONS"},
    "/ingestions/x/retry": {"POST", "OPTIONS"},
    "/queue": READ | {"PATCH"},
    "/queue/pause": {"POST", "OPTIONS"},
    "/queue/resume": {"POST", "OPTIONS"},
    "/rate-proof": READ,
    "/status/x/results": READ,
}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ALLOWED)
def test_each_route_tells_the_methods_it_has(client: FlaskClient, path: str, method: str) -> None:
    if method in ALLOWED[path]:
        return
    answer = client.open(path, method=method)
    refused(answer, 405, "method-not-allowed")
    assert set(answer.headers["Allow"].split(", ")) == ALLOWED[path]


@pytest.mark.parametrize("path", ["/", "/health", "/status/x", "/status", "/docs", "/openapi.json"])
def test_what_can_only_be_read_takes_no_post(client: FlaskClient, path: str) -> None:
    answer = client.post(path, data=VALID, content_type=JSON)
    refused(answer, 405, "method-not-allowed")
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize(
    "given", ["", "a b", "a\nb", "x" * 129, "x" * 10_000, "<b>x</b>", "ü", "\x00", "%0d%0a"]
)
def test_a_request_id_that_could_do_harm_is_replaced(client: FlaskClient, given: str) -> None:
    environ = {"HTTP_X_REQUEST_ID": given}
    answer = client.get("/health", environ_overrides=environ)
    assert answer.status_code == 200
    assert len(answer.headers["X-Request-ID"]) == 36
    assert answer.headers["X-Request-ID"] != given


@pytest.mark.parametrize("key", ["", "k" * 256, "a\x01", "a b", "\x7f", "ü", "a\nb"], ids=ascii)
def test_an_idempotency_key_that_is_none_is_refused(client: FlaskClient, key: str) -> None:
    environ = {"HTTP_IDEMPOTENCY_KEY": key}
    answer = client.post("/ingest", data=VALID, content_type=JSON, environ_overrides=environ)
    assert "Idempotency-Key" in refused(answer, 400, "validation-error")["detail"]


@pytest.mark.parametrize("host", ["", "a b", "<x>", "[::1", "x:99999999", "ü"])
def test_a_strange_host_is_none_of_our_business(client: FlaskClient, host: str) -> None:
    assert client.get("/health", environ_overrides={"HTTP_HOST": host}).status_code == 200


@limits(deadline=None, derandomize=True, suppress_health_check=[SHARED], max_examples=50)
@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_whatever_is_asked_for_is_answered_in_json(
    client: FlaskClient, path: str, value: str
) -> None:
    answer = client.get(
        f"/status/{quote(path, safe='')}", query_string={"offset": value, "ingestion_id": path}
    )
    assert answer.status_code in (400, 404)
    assert answer.content_type == "application/problem+json"
