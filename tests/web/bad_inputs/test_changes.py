"""Changes that cannot be made."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.web.bad_inputs.support import JSON, PRIORITIES, refused

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


@pytest.mark.parametrize(
    "bad", [1, None, True, [], {}, "x" * 1_025, "\0", "a\n\0b"], ids=lambda bad: repr(bad)[:9]
)
def test_what_is_not_a_reason_does_not_pause(client: FlaskClient, bad: object) -> None:
    answer = client.post("/queue/pause", json={"reason": bad})
    problem = refused(answer, 400, "validation-error")
    assert [each["pointer"] for each in problem["errors"]] == ["/reason"]
    assert client.get("/queue").get_json()["state"] == "running"
    if isinstance(bad, str):
        assert client.post("/dashboard/pause", data={"reason": bad}).status_code == 400
