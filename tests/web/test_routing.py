"""The view that a key is checked for is the view that answers."""

import pytest
from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.test import EnvironBuilder

from ingest_service.app import create_app
from ingest_service.settings import Settings
from ingest_service.web.lean_flask import adapter_of


@pytest.fixture(scope="module")
def app() -> Flask:
    return create_app(Settings(interval=3_600, settle=3_600))


def _found(app: Flask, path: str, method: str, headers: dict[str, str]) -> tuple[str, str]:
    """Return what a check before the view finds, and what Flask finds."""
    environ = EnvironBuilder(path=path, method=method, headers=headers).get_environ()
    environ["PATH_INFO"] = path
    try:
        before, _ = adapter_of(app, app.request_class(environ)).match()
    except HTTPException as error:
        before = str(error.code)
    with app.request_context(environ) as context:
        error = context.request.routing_exception
        rule = context.request.url_rule
    return before, str(getattr(error, "code", None)) if error else str(rule and rule.endpoint)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Connection": "Upgrade", "Upgrade": "websocket"},
        {"Host": "other.example:1"},
        {"X-HTTP-Method-Override": "GET"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "get"])
@pytest.mark.parametrize(
    "path", ["/queue/pause", "//queue/pause", "/queue/pause/", "/queue//pause"]
)
def test_nothing_in_a_request_makes_two_routes_of_one(
    app: Flask, path: str, method: str, headers: dict[str, str]
) -> None:
    before, found = _found(app, path, method, headers)
    assert before == found


def test_a_route_is_found_by_the_path_and_the_method(app: Flask) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert _found(app, "/queue/pause", "POST", upgrade)[0] == "control.pause"
    assert _found(app, "/queue/pause", "GET", {})[0] == "405"
