"""Every route says what it asks of a key."""

from flask.testing import FlaskClient

from ingest_service.keys.scope import Scope
from ingest_service.web.scopes import scope_of

OPEN = {
    "/",
    "/health",
    "/health/live",
    "/health/ready",
    "/docs",
    "/redoc",
    "/openapi.json",
    "/problems/<slug>",
    # What the pages load.
    "/docs/<any('swagger-ui.css', 'swagger-ui-bundle.js', 'favicon-32x32.png'):name>",
    "/static/<name>",
}


def test_every_route_declares_a_scope_and_only_the_known_ones_are_open(client: FlaskClient) -> None:
    app = client.application
    declared = {rule.rule: scope_of(app, rule.endpoint) for rule in app.url_map.iter_rules()}

    # They are open and show only what the key allows that somebody has signed in with.
    pages = {path for path in declared if path.startswith("/dashboard")}

    assert {path for path, scope in declared.items() if scope is None} == set()
    assert {path for path, scope in declared.items() if scope is Scope.OPEN} == OPEN | pages
