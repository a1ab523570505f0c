"""What a request held goes with its answer: the collector does not see that it is large."""

import io
import json
import logging
import weakref
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, run_wsgi_app

from ingest_service.errors import StorageUnavailable
from ingest_service.web import admission
from ingest_service.web.media_type import ADMITTED
from tests.support import Api
from tests.uncollected import uncollected

_MAPPING = {"id": "a", "source": "s", "target": "t"}


class _Body(io.BytesIO):
    """Can be watched."""


@pytest.fixture(autouse=True)
def _uncollected() -> Iterator[None]:
    with uncollected():
        yield


def _environ(
    method: str, path: str, body: bytes, headers: Mapping[str, str]
) -> tuple[dict[str, Any], weakref.ref[_Body]]:
    stream = _Body(body)
    all_headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body))})
    all_headers.update(headers)
    builder = EnvironBuilder(path, method=method, input_stream=stream, headers=all_headers)
    return builder.get_environ(), weakref.ref(stream)


def _is_gone(
    app: Flask,
    expected: int,
    method: str,
    path: str,
    body: bytes,
    headers: Mapping[str, str] = MappingProxyType({}),
    *,
    read: bool = False,
) -> bool:
    environ, watched = _environ(method, path, body, headers)
    if read:
        environ[ADMITTED] = True
    parts, status, _ = run_wsgi_app(app, environ)
    assert status.startswith(str(expected)), status
    del environ, parts
    return watched() is None


@pytest.mark.parametrize("read", [False, True], ids=["read-here", "read-before"])
@pytest.mark.parametrize(
    "payload",
    [
        [1],
        {"ids": ["a", 1.5], "priority": "HIGH"},
        {"ids": [1], "priority": "HIGH", "x": 1},
        {"ids": [1], "mappings": [_MAPPING], "priority": "HIGH"},
        {"mappings": [_MAPPING, _MAPPING], "priority": "HIGH"},
        {"mappings": [{"id": "a"}], "priority": "HIGH"},
        {"mappings": [1], "priority": "URGENT"},
    ],
    ids=json.dumps,
)
def test_a_body_that_does_not_keep_the_contract(
    client: FlaskClient, payload: Any, read: bool
) -> None:
    body = json.dumps(payload).encode()
    assert _is_gone(client.application, 400, "POST", "/ingest", body, read=read)


@pytest.mark.parametrize(
    ("expected", "method", "path", "body"),
    [
        (400, "POST", "/ingest", b"{"),
        (400, "POST", "/ingest", b"[" * 10_000),
        (400, "PATCH", "/queue", b'{"interval_seconds": "a"}'),
        (400, "POST", "/ingest?dry_run=maybe", b"{}"),
        (400, "GET", "/ingestions?limit=x", b""),
        (404, "GET", "/nowhere", b"{}"),
        (404, "GET", "/status/00000000-0000-4000-8000-000000000000", b"{}"),
        (405, "DELETE", "/ingest", b"{}"),
    ],
)
def test_a_request_that_asks_for_what_there_is_not(
    client: FlaskClient, expected: int, method: str, path: str, body: bytes
) -> None:
    assert _is_gone(client.application, expected, method, path, body)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", 200),
        ("/ingestions", 200),
        ("/ingestions/{id}", 200),
        ("/submit", 200),
        ("/sign-in", 200),
        ("/nowhere", 404),
    ],
)
def test_a_page_and_all_that_it_shows(still: Api, path: str, expected: int) -> None:
    """A macro has what is around it."""
    ingestion_id = still.ingest([1, 2, 3, 4])
    still.advance(20)
    page = f"/dashboard{path.format(id=ingestion_id)}"
    assert _is_gone(still.client.application, expected, "GET", page, b"{}")


def test_a_body_with_the_key_of_another(client: FlaskClient) -> None:
    for number, expected in ((1, 200), (2, 422)):
        body = json.dumps({"ids": [number], "priority": "HIGH"}).encode()
        key = {"Idempotency-Key": "a"}
        assert _is_gone(client.application, expected, "POST", "/ingest", body, key)


def test_a_request_at_which_the_service_crashes(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash() -> None:
        error = KeyError("a bug")
        raise error

    monkeypatch.setitem(client.application.view_functions, "control.show_queue", crash)
    # What is logged is kept by the test's own log.
    with caplog.at_level(logging.CRITICAL, logger="ingest_service"):
        assert _is_gone(client.application, 500, "GET", "/queue", b"{}")


def test_a_body_that_could_not_be_committed(client: FlaskClient) -> None:
    environ, watched = _environ("POST", "/ingest", b"{}", {})

    def fail() -> None:
        stream, error = environ["wsgi.input"], StorageUnavailable("The journal is closed.")
        assert stream
        raise error

    try:
        fail()
    except StorageUnavailable as error:
        answer = admission.answer_for(client.application, environ, error)
    assert answer.status_code == 503
    environ.clear()
    del answer
    assert watched() is None
