"""The view that a key is checked for is the view that answers."""

import pytest
from flask import Flask
from werkzeug.test import EnvironBuilder

from ingest_service.app import create_app
from ingest_service.keys.scope import Scope
from ingest_service.settings import Settings
from ingest_service.web.scopes import finder, scope_of


@pytest.fixture(scope="module")
def app() -> Flask:
    return create_app(Settings(interval=3_600, settle=3_600))


def _found(
    app: Flask, path: str, method: str, headers: dict[str, str]
) -> tuple[Scope | None, Scope | None]:
    """Return what the check before a view asks for, and what the view does that Flask finds."""
    environ = EnvironBuilder(path=path, method=method, headers=list(headers.items())).get_environ()
    environ["PATH_INFO"] = path
    with app.request_context(environ) as context:
        rule = None if context.request.routing_exception else context.request.url_rule
        found = scope_of(app, rule.endpoint) if rule else None
    return finder(app)(environ["REQUEST_METHOD"], path), found


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
    assert _found(app, "/queue/pause", "POST", upgrade) == (Scope.OPERATE, Scope.OPERATE)
    assert _found(app, "/queue/pause", "GET", {}) == (None, None)
