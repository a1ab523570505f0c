"""What must not get in: each is refused in words, as a problem, and leaves nothing behind."""

import json
import time
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from ingest_service.settings import Settings
from tests.support import serving

JSON = "application/json"
VALID = b'{"ids":[1],"priority":"LOW"}'
MAPPING = {"id": "a", "source": "s", "target": "t"}
PRIORITIES = "The priority must be one of HIGH, MEDIUM, LOW."


@pytest.fixture(scope="module")
def client() -> Iterator[FlaskClient]:
    """Give a client whose service takes bodies up to 16 MiB; nothing bad changes it."""
    with serving(Settings(max_body=2**24), threaded=False) as served:
        yield served.client


@pytest.fixture(autouse=True)
def nothing_is_stored(client: FlaskClient) -> Iterator[None]:
    """Compare what is stored before and after every test."""
    before = stored(client)
    yield
    assert stored(client) == before


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


def mappings(*given: object) -> dict[str, Any]:
    """Return a request for mappings."""
    return {"mappings": list(given), "priority": "LOW"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "line 1 column 1"),
        (b" \n ", "line 2 column 2"),
        (b'{"ids":[1]', "line 1 column 11"),
        (b'{"ids":[1,]}', "line 1 column 11"),
        (b"{'ids':[1]}", "line 1 column 2"),
        (b'{"ids":[1]}x', "line 1 column 12"),
        (VALID + VALID, "line 1 column 29"),
        (b'{"ids":[01],"priority":"LOW"}', "line 1 column 10"),
        (b'{"ids":[0x1],"priority":"LOW"}', "line 1 column 10"),
        (b'{"ids":[+1],"priority":"LOW"}', "line 1 column 9"),
        (b'{"ids":[1],/**/"priority":"LOW"}', "line 1 column 12"),
        (b"ids=1&priority=LOW", "line 1 column 1"),
        (b'{"ids":[NaN],"priority":"LOW"}', "NaN"),
        (b'{"ids":[Infinity],"priority":"LOW"}', "Infinity"),
        (b'{"ids":[-Infinity],"priority":"LOW"}', "Infinity"),
        (b'{"ids":[1e400],"priority":"LOW"}', "1e400"),
        (b'{"ids":[1],"ids":[2],"priority":"LOW"}', '"ids"'),
        (b'{"mappings":[{"id":"a","id":"b","source":"s","target":"t"}]}', '"id"'),
        (b'{"ids":[' + b"9" * 5_000 + b'],"priority":"LOW"}', "digits"),
        (b'{"ids":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested"),
        (VALID.decode().encode("utf-16"), "UTF-8"),
        (VALID.decode().encode("utf-16-le"), "line 1 column 2"),
        (VALID.decode().encode("utf-8-sig")[:-1], "line 1 column 28"),
        (b"\xef\xbb\xbf" * 2 + VALID, "BOM"),
        (b"\xff", "UTF-8"),
        (b'{"ids":[1],"priority":"\xed\xa0\x80"}', "UTF-8"),
        (b'{"ids":[1],"priority":"\\ud800"}', "surrogate"),
        (b'{"ids":[1],"\\udfff":1}', "surrogate"),
        (b'{"mappings":[{"id":"\\ud800","source":"s","target":"t"}]}', "surrogate"),
        (b'{"ids":[1],"priority":"LOW\x00"}', "control character"),
    ],
)
def test_a_body_that_is_not_json_for_everybody_is_refused(
    client: FlaskClient, body: bytes, says: str
) -> None:
    assert says in refused(post(client, body), 400, "invalid-json")["detail"]


@pytest.mark.parametrize("value", [None, 1, -1.5, "x", "", True, [1, 2], []], ids=repr)
def test_a_body_that_is_not_an_object_is_refused(client: FlaskClient, value: object) -> None:
    problem = refused(post(client, value), 400, "validation-error")
    assert problem["errors"] == [{"pointer": "", "detail": "This must be a JSON object."}]


def test_an_empty_object_is_told_all_that_is_missing(client: FlaskClient) -> None:
    problem = refused(post(client, {}), 400, "validation-error")
    assert {each["pointer"] for each in problem["errors"]} == {"/ids", "/priority"}


@pytest.mark.parametrize("ids", [[1], [], 0, False], ids=repr)
def test_ids_and_mappings_together_are_refused(client: FlaskClient, ids: object) -> None:
    problem = refused(post(client, mappings(MAPPING) | {"ids": ids}), 400, "validation-error")
    assert problem["detail"] == "Give either ids or mappings, not both."


def test_a_null_beside_nothing_is_what_is_wrong(client: FlaskClient) -> None:
    body = {"ids": None, "mappings": None, "priority": "LOW"}
    problem = refused(post(client, body), 400, "validation-error")
    assert [each["pointer"] for each in problem["errors"]] == ["/ids"]


@pytest.mark.parametrize("ids", [[], "1,2,3", {"0": 1}, None, 1, True, ""], ids=repr)
@pytest.mark.parametrize("key", ["ids", "mappings"])
def test_what_is_not_a_list_with_something_in_it_is_refused(
    client: FlaskClient, key: str, ids: object
) -> None:
    problem = refused(post(client, {key: ids, "priority": "LOW"}), 400, "validation-error")
    assert [each["pointer"] for each in problem["errors"]] == [f"/{key}"]


@pytest.mark.parametrize(
    "bad",
    [
        *(0, -1, 1_000_000_008, 2**32 + 1, 2**63, 2**64, 10**300, 1.5, -0.0, 1e300, 1e-300),
        *("1", "", True, False, None, [1], [], {}, {"id": 1}),
    ],
    ids=repr,
)
def test_what_is_not_an_id_is_pointed_to(client: FlaskClient, bad: object) -> None:
    body = {"ids": [bad], "priority": "LOW"}
    problem = refused(post(client, body), 400, "validation-error")
    expected = "An id must be a whole number from 1 to 1000000007."
    assert problem["errors"] == [{"pointer": "/ids/0", "detail": expected}]


def test_one_bad_id_among_good_ones_refuses_them_all(client: FlaskClient) -> None:
    body = {"ids": [*range(1, 1000), "x", 1000], "priority": "LOW"}
    problem = refused(post(client, body), 400, "validation-error")
    assert [each["pointer"] for each in problem["errors"]] == ["/ids/999"]


@pytest.mark.parametrize(
    "body",
    [
        {"ids": [0] * 10_000, "priority": "LOW"},
        mappings(*[{}] * 10_000),
        mappings(*[None] * 10_000),
        mappings(*[MAPPING] * 10_001),
    ],
    ids=["ids", "empty mappings", "no mappings", "one mapping repeated"],
)
def test_of_many_errors_twenty_are_listed_and_the_others_counted(
    client: FlaskClient, body: object
) -> None:
    problem = refused(post(client, body), 400, "validation-error")
    assert len(problem["errors"]) == 20
    # An empty mapping lacks three keys, so its twenty errors are those of seven mappings.
    assert problem["errors_omitted"] >= 9_980


def test_ten_thousand_bad_ids_are_counted_exactly(client: FlaskClient) -> None:
    problem = refused(post(client, {"ids": [0] * 10_000, "priority": 1}), 400, "validation-error")
    assert problem["errors_omitted"] == 9_981


@pytest.mark.parametrize(
    "priority",
    [
        *("high", "", "HIGH ", "URGENT", "HİGH", "1", "__class__", "mro", "name", "_member_map_"),
        *(2, 1.0, None, True, ["HIGH"], {"HIGH": 1}),
    ],
    ids=repr,
)
def test_what_is_not_a_priority_is_told_the_allowed_ones(
    client: FlaskClient, priority: object
) -> None:
    problem = refused(post(client, {"ids": [1], "priority": priority}), 400, "validation-error")
    assert problem["errors"] == [{"pointer": "/priority", "detail": PRIORITIES}]


def test_a_missing_priority_is_told_the_allowed_ones(client: FlaskClient) -> None:
    problem = refused(post(client, {"ids": [1]}), 400, "validation-error")
    assert problem["errors"] == [
        {"pointer": "/priority", "detail": f"This key is missing. {PRIORITIES}"}
    ]


@pytest.mark.parametrize(
    ("key", "pointer", "hint"),
    [
        ("prioritty", "/prioritty", "did you mean priority?"),
        ("Ids", "/Ids", "did you mean ids?"),
        ("mapping", "/mapping", "did you mean mappings?"),
        ("", "/", "known are ids, mappings, priority."),
        ("a/b~c", "/a~1b~0c", "known are"),
        ("_schema", "/_schema", "known are"),
        ("\0omitted", "/\0omitted", "known are"),
        ("__proto__", "/__proto__", "known are"),
        ("0", "/0", "known are"),
        ("<script>alert(1)</script>", "/<script>alert(1)<~1script>", "known are"),
    ],
)
def test_an_unknown_key_is_named_with_the_one_probably_meant(
    client: FlaskClient, key: str, pointer: str, hint: str
) -> None:
    body = {"ids": [1], "priority": "LOW", key: "LOW"}
    (error,) = refused(post(client, body), 400, "validation-error")["errors"]
    assert error["pointer"] == pointer
    assert error["detail"].startswith("Unknown key; ")
    assert hint in error["detail"]


def test_an_unknown_key_in_a_mapping_is_pointed_to(client: FlaskClient) -> None:
    for key, hint in (
        ("sources", "did you mean source?"),
        ("_schema", "known"),
        ("\0omitted", "known"),
    ):
        body = mappings(MAPPING, MAPPING | {"id": "b", key: 1})
        (error,) = refused(post(client, body), 400, "validation-error")["errors"]
        assert error["pointer"] == f"/mappings/1/{key}"
        assert hint in error["detail"]


def test_a_very_long_unknown_key_is_not_repeated_in_full(client: FlaskClient) -> None:
    refused(post(client, {"ids": [1], "k" * 1_000_000: 1}), 400, "validation-error")


@pytest.mark.parametrize(
    "body",
    [
        {"ids": [1], "priority": "LOW"} | {f"k{number}": 1 for number in range(100_000)},
        mappings(*[{"sources": 1}] * 100_000),
    ],
    ids=["keys", "mappings"],
)
def test_being_wrong_a_hundred_thousand_times_costs_nobody_much(
    client: FlaskClient, body: object
) -> None:
    """Only what is listed is worked out in detail; it took seconds when everything was."""
    data, began = json.dumps(body).encode(), time.thread_time()
    problem = refused(post(client, data), 400, "validation-error")
    assert time.thread_time() - began < 1
    assert problem["errors_omitted"] >= 99_980


@pytest.mark.parametrize("key", ["id", "source", "target"])
@pytest.mark.parametrize("bad", ["", "x" * 1_025, 1, None, True, ["x"], {}], ids=repr)
def test_a_text_of_a_mapping_that_is_none_is_pointed_to(
    client: FlaskClient, key: str, bad: object
) -> None:
    body = mappings(MAPPING, {**MAPPING, "id": "b", key: bad})
    (error,) = refused(post(client, body), 400, "validation-error")["errors"]
    assert error["pointer"] == f"/mappings/1/{key}"


@pytest.mark.parametrize("key", ["id", "source", "target"])
def test_a_mapping_that_lacks_a_text_is_pointed_to(client: FlaskClient, key: str) -> None:
    body = mappings({name: text for name, text in MAPPING.items() if name != key})
    problem = refused(post(client, body), 400, "validation-error")
    assert [each["pointer"] for each in problem["errors"]] == [f"/mappings/0/{key}"]


def test_two_mappings_with_one_id_are_refused(client: FlaskClient) -> None:
    problem = refused(post(client, mappings(MAPPING, MAPPING)), 400, "validation-error")
    assert [each["pointer"] for each in problem["errors"]] == ["/mappings/1/id"]


@pytest.mark.parametrize("bad", [None, 1, "x", [], [MAPPING], True], ids=repr)
def test_what_is_not_a_mapping_is_pointed_to(client: FlaskClient, bad: object) -> None:
    problem = refused(post(client, mappings(bad)), 400, "validation-error")
    assert [each["pointer"] for each in problem["errors"]] == ["/mappings/0"]


def nested(depth: int) -> dict[str, Any]:
    """Return an object with `depth` levels, itself included."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"below": value}
    return value


@pytest.mark.parametrize(
    "bad",
    [[], "x", 1, nested(17), {"a": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}, {"n": 2**63}],
    ids=repr,
)
def test_a_transformation_that_cannot_be_kept_is_pointed_to(
    client: FlaskClient, bad: object
) -> None:
    body = mappings(MAPPING | {"transformation": bad})
    problem = refused(post(client, body), 400, "validation-error")
    assert [each["pointer"] for each in problem["errors"]] == ["/mappings/0/transformation"]


@pytest.mark.parametrize(
    "media_type",
    [
        *("text/plain", "application/xml", "multipart/form-data; boundary=x", "text/html", "x"),
        *("application/x-www-form-urlencoded", "application/jsonx", "application/json,text/html"),
        *(
            f"application/json; charset={name}"
            for name in ("latin-1", "utf-16", "UTF-7", "x", '""')
        ),
    ],
)
def test_another_media_type_is_refused_with_the_header_to_add(
    client: FlaskClient, media_type: str
) -> None:
    answer = client.post("/ingest", data=VALID, content_type=media_type)
    detail = refused(answer, 415, "unsupported-media-type")["detail"]
    assert "-H 'Content-Type: application/json'" in detail


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "gzip, identity", "x"])
def test_a_coded_body_is_refused(client: FlaskClient, coding: str) -> None:
    answer = post(client, VALID, **{"Content-Encoding": coding})
    refused(answer, 415, "unsupported-media-type")


class Unread:
    """A body that must not be touched."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"{name} of a body that was refused already")


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Content-Encoding": "gzip"}, 415), ({"Content-Type": "text/plain"}, 415), ({}, 413)],
)
def test_a_body_that_is_refused_by_its_headers_is_not_read(
    client: FlaskClient, headers: dict[str, str], status: int
) -> None:
    answer = client.post(
        "/ingest",
        environ_overrides={"wsgi.input": Unread(), "CONTENT_LENGTH": str(2**24 + 2)},
        headers={"Content-Type": JSON} | headers,
    )
    assert answer.status_code == status


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(client: FlaskClient, chunked: bool) -> None:
    """One that comes in chunks has no length; it must not be cut and then read as a whole one."""
    body = VALID.ljust(2**24 + 1)
    problem = refused(send(client, body, chunked), 413, "payload-too-large")
    assert str(2**24) in problem["detail"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_exactly_the_limit_is_read(client: FlaskClient, chunked: bool) -> None:
    body = b'{"ids":[0],"priority":"LOW"}'.ljust(2**24)
    refused(send(client, body, chunked), 400, "validation-error")


def send(client: FlaskClient, body: bytes, chunked: bool) -> TestResponse:
    """Post `body`; if `chunked`, as a server hands on one of unknown length."""
    if not chunked:
        return post(client, body)
    environ = {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    return client.post("/ingest", data=body, content_type=JSON, environ_overrides=environ)


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
    "/ingestions/x": {"PATCH", "OPTIONS"},
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


#: Everything that changes something, with a body that it would take.
CHANGES = (
    ("POST", "/ingestions/{}/cancel", b""),
    ("PATCH", "/ingestions/{}", b'{"priority":"LOW"}'),
    ("POST", "/ingestions/{}/retry", b""),
)


@pytest.mark.parametrize(
    "name",
    [
        *("x", "%00", "a" * 10_000, "%ff", "8f14e45f-ceea-467f-a8f5-1c2b3d4e5f60", "' OR 1=1--"),
        *("8F14E45F-CEEA-467F-A8F5-1C2B3D4E5F60", "{{7*7}}", "<b>", "%0d%0aX: y", "-1", "%2e%2e"),
    ],
    ids=lambda name: name[:20],
)
@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_what_is_not_there_cannot_be_changed(
    client: FlaskClient, method: str, path: str, body: bytes, name: str
) -> None:
    answer = client.open(path.format(name), method=method, data=body, content_type=JSON)
    refused(answer, 404, "not-found")


#: Where bodies are read, and one that is right.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("PATCH", "/ingestions/x"): {"priority": "LOW"},
    ("PATCH", "/queue"): {"interval_seconds": 1},
    ("POST", "/queue/pause"): {"reason": "x"},
}


@pytest.mark.parametrize(("method", "path"), BODIES)
class TestBodiesOfChanges:
    """As strict as submitting."""

    def send(self, client: FlaskClient, method: str, path: str, body: object) -> TestResponse:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return client.open(path, method=method, data=data, content_type=JSON)

    @pytest.mark.parametrize(
        "body",
        [
            *(b"{", b"{'a':1}", b'{"a":NaN}', b"{}x", b"\xff", b'{"a":"\\ud800"}', b" "),
            *(b'{"a":1,"a":1}', b"[" * 100_000, b'{"a":' + b"9" * 5_000 + b"}"),
        ],
        ids=lambda body: repr(body)[:20],
    )
    def test_what_is_not_json_is_refused(
        self, client: FlaskClient, method: str, path: str, body: bytes
    ) -> None:
        refused(self.send(client, method, path, body), 400, "invalid-json")

    @pytest.mark.parametrize("body", [None, 1, "LOW", [], ["LOW"], True], ids=repr)
    def test_what_is_not_an_object_is_refused(
        self, client: FlaskClient, method: str, path: str, body: object
    ) -> None:
        problem = refused(self.send(client, method, path, body), 400, "validation-error")
        assert problem["errors"] == [{"pointer": "", "detail": "This must be a JSON object."}]

    def test_an_unknown_key_is_named_with_the_one_probably_meant(
        self, client: FlaskClient, method: str, path: str
    ) -> None:
        right = BODIES[method, path]
        (key,) = right
        body = {**right, key + "s": 1, "zzz": 1}
        problem = refused(self.send(client, method, path, body), 400, "validation-error")
        assert problem["errors"] == [
            {"pointer": f"/{key}s", "detail": f"Unknown key; did you mean {key}?"},
            {"pointer": "/zzz", "detail": f"Unknown key; known are {key}."},
        ]

    @pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded"])
    def test_another_media_type_is_refused(
        self, client: FlaskClient, method: str, path: str, media_type: str
    ) -> None:
        answer = client.open(path, method=method, data=b"{}", content_type=media_type)
        refused(answer, 415, "unsupported-media-type")

    def test_a_coded_body_is_refused(self, client: FlaskClient, method: str, path: str) -> None:
        coded = {"Content-Encoding": "gzip"}
        answer = client.open(path, method=method, data=b"{}", content_type=JSON, headers=coded)
        refused(answer, 415, "unsupported-media-type")

    def test_a_body_over_the_limit_is_refused(
        self, client: FlaskClient, method: str, path: str
    ) -> None:
        answer = self.send(client, method, path, b" " * (2**24 + 1))
        refused(answer, 413, "payload-too-large")


@pytest.mark.parametrize(("method", "path"), [key for key in BODIES if key[0] == "PATCH"])
def test_a_change_without_a_body_is_refused(client: FlaskClient, method: str, path: str) -> None:
    refused(client.open(path, method=method), 400, "invalid-json")
    problem = refused(client.open(path, method=method, json={}), 400, "validation-error")
    (key,) = BODIES[method, path]
    assert [each["pointer"] for each in problem["errors"]] == [f"/{key}"]
    assert problem["errors"][0]["detail"].startswith("This key is missing.")


@pytest.mark.parametrize("bad", ["low", "", 1, None, True, ["LOW"], {}], ids=repr)
def test_what_is_not_a_class_is_told_the_allowed_ones(client: FlaskClient, bad: object) -> None:
    """Before anybody looks whether there is such an ingestion."""
    answer = client.patch("/ingestions/x", json={"priority": bad})
    problem = refused(answer, 400, "validation-error")
    assert problem["errors"] == [{"pointer": "/priority", "detail": PRIORITIES}]


@pytest.mark.parametrize(
    "bad", [-1, -0.001, 86_401, 10**300, 1e300, "1", "", None, True, False, [], {}, [1]], ids=repr
)
def test_what_is_not_an_interval_is_told_its_limits(client: FlaskClient, bad: object) -> None:
    problem = refused(
        client.patch("/queue", json={"interval_seconds": bad}), 400, "validation-error"
    )
    expected = "This must be a number of seconds from 0 to 86400."
    assert problem["errors"] == [{"pointer": "/interval_seconds", "detail": expected}]
    assert client.get("/queue").get_json()["interval_seconds"] == 5


@pytest.mark.parametrize("bad", [1, None, True, [], {}, "x" * 1_025], ids=lambda bad: repr(bad)[:9])
def test_what_is_not_a_reason_does_not_pause(client: FlaskClient, bad: object) -> None:
    answer = client.post("/queue/pause", json={"reason": bad})
    problem = refused(answer, 400, "validation-error")
    assert [each["pointer"] for each in problem["errors"]] == ["/reason"]
    assert client.get("/queue").get_json()["state"] == "running"


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


#: Nothing is stored, so the examples of a test may share a service.
SHARED = HealthCheck.function_scoped_fixture

words = st.sampled_from(["ids", "mappings", "priority", "LOW", "_schema", "id", "source", "target"])
json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | words,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words | st.text(), inner, max_size=3)
    ),
    max_leaves=10,
)
requests = st.fixed_dictionaries(
    {},
    optional={
        "ids": st.lists(st.integers(-1, 0) | json_like) | json_like,
        "priority": st.sampled_from(["low", "", None]) | json_like,
        "mappings": st.lists(st.just({**MAPPING, "x": 1}) | json_like) | json_like,
    },
)


@limits(deadline=None, derandomize=True, suppress_health_check=[SHARED], max_examples=150)
@given(st.binary() | (json_like | requests).map(lambda value: json.dumps(value).encode()))
def test_whatever_is_posted_is_answered_in_json(client: FlaskClient, body: bytes) -> None:
    # Chance may write a valid request; without a valid key even that is not stored.
    answer = post(client, body, **{"Idempotency-Key": ""})
    slug = json.loads(answer.data)["type"].rpartition("/")[2]
    assert slug in ("invalid-json", "validation-error")
    refused(answer, 400, slug)


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
