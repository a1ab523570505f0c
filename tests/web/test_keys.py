"""Who may do what: every route with every kind of key, in every way of having none."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.routing import Rule
from werkzeug.test import EnvironBuilder, TestResponse

from ingest_service.app import build, create_app
from ingest_service.keys.file_format import GRANTED
from ingest_service.keys.keyring import RECORDER
from ingest_service.keys.scope import Scope
from ingest_service.settings import Settings
from ingest_service.web import admission
from ingest_service.web.scopes import scope_of
from tests.descriptors import no_descriptors
from tests.keys.support import secret, table, write
from tests.support import Api, FrozenClock, serving

GONE = secret(90)
EXPIRED = secret(91)
LOW_ONLY, OWN_ONLY, TWICE, SHORT = secret(92), secret(93), secret(94), secret(95)
OF_SCOPE = {scope: secret(number) for number, scope in enumerate(GRANTED)}
FULL = secret(80)
TABLES = (
    *(table(f"for-{scope}", key, scopes=f'["{scope}"]') for scope, key in OF_SCOPE.items()),
    table("full", FULL, scopes='["submit", "read", "operate", "metrics"]'),
    table("expired", EXPIRED, "expires_at = 2026-01-01T11:59:59Z"),
    table("low", LOW_ONLY, 'max_priority = "LOW"', scopes='["submit", "operate"]'),
    table("own", OWN_ONLY, "own_only = true", scopes='["submit", "read", "operate"]'),
    table("twice", TWICE, "requests_per_minute = 2"),
    table("short", SHORT, "expires_at = 2026-01-01T12:00:10Z"),
)
IDS = {"ids": [1], "priority": "LOW"}

#: Headers that let nobody in.
NOBODY: dict[str, list[tuple[str, str]]] = {
    "no key": [],
    "empty": [("Authorization", "")],
    "only the scheme": [("Authorization", "Bearer")],
    "basic": [("Authorization", "Basic aWtfOg==")],
    "no scheme": [("Authorization", FULL)],
    "another scheme": [("Authorization", f"Token {FULL}")],
    "unknown": [("Authorization", f"Bearer {secret(70)}")],
    "cut off": [("Authorization", f"Bearer {FULL[:-1]}")],
    "too long": [("Authorization", f"Bearer {FULL}x")],
    "another case": [("Authorization", f"Bearer {FULL.swapcase()}")],
    "not a key": [("Authorization", "Bearer hunter2")],
    "its digest": [("Authorization", f"Bearer {'0' * 64}")],
    "é": [("Authorization", f"Bearer {FULL[:-1]}é")],
    "two keys": [("Authorization", f"Bearer {FULL}, Bearer {FULL}")],
    "far behind": [("Authorization", f"Bearer{' ' * 60_000}{FULL}")],
    "huge": [("Authorization", f"Bearer {'x' * 1_000_000}")],
    "expired": [("Authorization", f"Bearer {EXPIRED}")],
    "revoked": [("Authorization", f"Bearer {GONE}")],
    "another header": [("X-API-Key", FULL), ("Proxy-Authorization", f"Bearer {FULL}")],
    "a cookie": [("Cookie", f"key={FULL}")],
}


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    """Return where the keys file is."""
    return tmp_path / "keys.toml"


@pytest.fixture
def api(keys_file: Path) -> Iterator[Api]:
    """Give a service with keys, one of which has been revoked while it ran."""
    settings = Settings(api_keys_file=write(keys_file, *TABLES, table("gone", GONE)))
    with serving(settings, threaded=False) as served:
        assert ask(served, GONE, "/queue").status_code == HTTPStatus.OK
        write(keys_file, *TABLES)
        served.advance(2)
        assert ask(served, GONE, "/queue").status_code == HTTPStatus.UNAUTHORIZED
        yield served


def ask(api: Api, key: str, path: str, method: str = "GET", **more: Any) -> TestResponse:
    """Send a request with a key."""
    return api.client.open(
        path, method=method, headers={"Authorization": f"Bearer {key}"}, buffered=True, **more
    )


def changes_of_keys(api: Api) -> list[Any]:
    """Return what the audit says of the keys file, once all that was noticed is in it."""
    for thread in threading.enumerate():
        if thread.name == RECORDER:
            thread.join()
    entries: list[Any] = ask(api, FULL, "/audit?action=keys").get_json()["entries"]
    return entries


def _routes() -> list[tuple[str, str, Scope]]:
    """Return each route: method, path, scope."""
    app: Flask = create_app(Settings(), build(Settings(), clock=FrozenClock()))
    return [
        (method, _some_path(rule), scope)
        for rule in app.url_map.iter_rules()
        # Pages have a door of their own.
        if not rule.rule.startswith("/dashboard")
        for method in sorted((rule.methods or set()) - {"OPTIONS"})
        if (scope := scope_of(app, rule.endpoint)) is not None
    ]


def _some_path(rule: Rule) -> str:
    """Return an address that leads there."""
    path = re.sub(r"<ingestion:\w+>", "8f14e45f-ceea-467f-a8f5-1c2b3d4e5f60", rule.rule)
    path = re.sub(r"<any\('([^']+)'.*?>", r"\1", path)
    return path.replace("<slug>", "not-found").replace("<name>", "reference.css")


ROUTES = _routes()
GUARDED = [route for route in ROUTES if route[2] is not Scope.OPEN]
NAMES = [f"{method} {path}" for method, path, _ in ROUTES]
GUARDED_NAMES = [f"{method} {path}" for method, path, _ in GUARDED]


@pytest.mark.parametrize(("method", "path", "scope"), GUARDED, ids=GUARDED_NAMES)
def test_without_a_key_in_force_every_guarded_route_answers_the_same(
    api: Api, method: str, path: str, scope: Scope
) -> None:
    """Whatever is wrong with it, and however the path is written."""
    answers = {
        (answer.status_code, answer.text, answer.headers["WWW-Authenticate"])
        for headers in NOBODY.values()
        for address in (path, f"{path}/", f"{path}%2F", f"{path}?key={FULL}&access_token={FULL}")
        for answer in [api.client.open(address, method=method, headers=headers, json=IDS)]
    }
    ((status, text, challenge),) = answers
    assert (status, challenge) == (HTTPStatus.UNAUTHORIZED, "Bearer")
    assert method == "HEAD" or '"type":"/problems/unauthorized"' in text.replace(" ", "")
    assert ask(api, FULL, "/ingestions").get_json()["ingestions"] == []


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES, ids=NAMES)
def test_a_key_opens_what_its_scope_is_for_and_nothing_else(
    api: Api, method: str, path: str, scope: Scope
) -> None:
    let_in = {Scope.OPEN: set(GRANTED), Scope.METRICS: {"metrics", "read"}}.get(scope, {scope})
    for granted, key in OF_SCOPE.items():
        answer = ask(api, key, path, method, json=IDS if path == "/ingest" else None)
        if granted in let_in:
            assert answer.status_code not in (401, 403, 429, 500), answer.text
        else:
            assert answer.status_code == HTTPStatus.FORBIDDEN
            assert method == "HEAD" or f"`{scope}`" in answer.get_json()["detail"]


@pytest.mark.parametrize(
    "path", [path for method, path, scope in ROUTES if scope is Scope.OPEN and method == "GET"]
)
@pytest.mark.embedded
def test_what_is_open_asks_nobody(api: Api, path: str) -> None:
    for headers in NOBODY.values():
        answer = api.client.get(path, headers=headers, buffered=True)
        # The worker of this service rests.
        assert answer.status_code == (503 if path == "/health/ready" else 200)


def test_only_who_has_a_key_is_told_that_there_is_nothing(api: Api) -> None:
    for method, path in (("GET", "/nowhere"), ("PUT", "/queue"), ("POST", "/health")):
        assert api.client.open(path, method=method).status_code == HTTPStatus.UNAUTHORIZED
        assert ask(api, OF_SCOPE["read"], path, method).status_code in (404, 405)


def test_a_key_ends_when_it_expires_and_is_revoked_within_two_seconds(
    api: Api, keys_file: Path
) -> None:
    assert ask(api, SHORT, "/queue").status_code == HTTPStatus.OK
    api.advance(8)
    assert ask(api, SHORT, "/queue").status_code == HTTPStatus.UNAUTHORIZED
    write(keys_file, table("new", secret(50)))
    api.advance(2)
    assert ask(api, FULL, "/queue").status_code == HTTPStatus.UNAUTHORIZED
    assert ask(api, secret(50), "/queue").status_code == HTTPStatus.OK


def test_a_wrong_change_keeps_the_keys_and_is_said(
    api: Api, keys_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(keys_file, table("full", FULL).replace("read", "reed"))
    api.advance(2)
    keys = api.client.get("/health").get_json()["keys"]
    assert keys["in_force"] == len(TABLES) - 1  # one has expired
    assert "log" in keys["trouble"]
    assert ask(api, FULL, "/queue").status_code == HTTPStatus.OK
    (said,) = [each for each in caplog.records if each.msg == "file_unusable"]
    assert "line 4: key 'full': `scopes` must be" in str(said.__dict__["fields"]["reason"])
    write(keys_file, *TABLES)
    api.advance(2)
    assert api.client.get("/health").get_json()["keys"]["trouble"] is None


@pytest.mark.parametrize(
    "make", [os.mkfifo, Path.mkdir, Path.unlink], ids=["pipe", "folder", "gone"]
)
def test_what_takes_the_place_of_the_file_keeps_nobody_waiting(
    api: Api, keys_file: Path, make: Callable[[Path], object]
) -> None:
    """The keys before stay, and when the file is back it counts."""
    keys_file.rename(aside := keys_file.with_suffix(".aside"))
    if make is Path.unlink:
        aside.rename(keys_file)
    make(keys_file)
    api.advance(2)
    assert ask(api, FULL, "/queue").status_code == HTTPStatus.OK
    assert "log" in api.client.get("/health").get_json()["keys"]["trouble"]
    if keys_file.is_dir():
        keys_file.rmdir()
    write(keys_file, table("new", GONE))
    api.advance(2)
    assert [ask(api, key, "/ingestions").status_code for key in (FULL, GONE)] == [401, 200]


def test_a_file_that_cannot_be_read_for_now_is_read_later(api: Api, keys_file: Path) -> None:
    """As while all descriptors are in use; it does not change when some are free again."""
    write(keys_file, table("new", GONE))
    with no_descriptors():
        api.advance(2)
        assert ask(api, FULL, "/health").get_json()["keys"]["trouble"] is not None
    api.advance(2)
    assert [ask(api, key, "/ingestions").status_code for key in (FULL, GONE)] == [401, 200]


def test_a_key_may_not_ask_for_more_urgency_than_it_has(api: Api) -> None:
    for priority, status in (("HIGH", 403), ("MEDIUM", 403), ("LOW", 200)):
        answer = ask(api, LOW_ONLY, "/ingest", "POST", json={"ids": [1], "priority": priority})
        assert answer.status_code == status
    moved = f"/ingestions/{answer.get_json()['ingestion_id']}"
    refused = ask(api, LOW_ONLY, moved, "PATCH", json={"priority": "HIGH"})
    assert (refused.status_code, "LOW" in refused.get_json()["detail"]) == (403, True)
    assert ask(api, FULL, moved, "PATCH", json={"priority": "HIGH"}).status_code == HTTPStatus.OK


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/queue/pause", {}),
        ("POST", "/queue/resume", None),
        ("PATCH", "/queue", {"interval_seconds": 1}),
    ],
)
def test_a_key_for_its_own_changes_nothing_for_others(
    api: Api, method: str, path: str, body: object
) -> None:
    answer = ask(api, OWN_ONLY, path, method, json=body)
    assert answer.status_code == HTTPStatus.FORBIDDEN
    assert "only what it has submitted" in answer.get_json()["detail"]


def test_a_change_of_the_keys_is_on_record(api: Api, keys_file: Path) -> None:
    write(keys_file, table("full", FULL, scopes='["operate"]'))
    api.advance(2)
    ask(api, FULL, "/queue")
    newest = changes_of_keys(api)[0]
    assert (newest["action"], newest["key"]) == ("keys", None)
    assert newest["after"] == [{"name": "full", "scopes": ["operate"]}]
    assert len(newest["before"]) == len(TABLES)


def test_a_file_that_says_the_same_is_no_change(api: Api, keys_file: Path) -> None:
    before = changes_of_keys(api)
    write(keys_file, *TABLES, "# nothing new\n")
    api.advance(2)
    ask(api, FULL, "/queue")
    assert changes_of_keys(api) == before


def test_a_key_that_asks_too_often_is_told_when_it_may_again(api: Api) -> None:
    first, second, third = (ask(api, TWICE, "/queue") for _ in range(3))
    assert [each.status_code for each in (first, second, third)] == [200, 200, 429]
    for answer, remaining in ((first, 1), (second, 0), (third, 0)):
        assert answer.headers["RateLimit-Policy"] == '"requests";q=2;w=60'
        assert answer.headers["RateLimit"] == f'"requests";r={remaining};t=61'
    assert third.get_json()["type"] == "/problems/too-many-requests"
    api.advance(59.5)
    assert ask(api, TWICE, "/queue").headers["Retry-After"] == "1"
    api.advance(1)
    assert ask(api, TWICE, "/queue").status_code == HTTPStatus.OK
    assert "RateLimit" not in ask(api, FULL, "/queue").headers


@pytest.mark.parametrize(
    ("head", "status"),
    [({"CONTENT_TYPE": "text/plain"}, 415), ({"CONTENT_LENGTH": "9" * 18}, 413)],
    ids=["media type", "length"],
)
def test_what_is_refused_before_its_body_tells_how_the_key_stands(
    api: Api, head: dict[str, str], status: int
) -> None:
    """It was counted."""
    environ = EnvironBuilder("/ingest", method="POST").get_environ()
    environ |= {"HTTP_AUTHORIZATION": f"Bearer {TWICE}", "wsgi.input": None, **head}
    refusal = admission.admit(api.client.application, environ)
    assert refusal is not None
    assert refusal.status_code == status
    assert refusal.headers["RateLimit"] == '"requests";r=1;t=61'


def test_that_every_answer_to_a_key_tells_how_it_stands_is_documented(api: Api) -> None:
    """Whatever it says, but that there is no key."""
    paths = api.client.get("/openapi.json").get_json()["paths"]
    for path in ("/status/{ingestion_id}", "/status/{ingestion_id}/results"):
        answer = ask(api, TWICE, path.format(ingestion_id="x"))
        told = {name for name, _ in answer.headers if name.startswith("RateLimit")}
        assert told == {"RateLimit", "RateLimit-Policy"}
        assert told <= paths[path]["get"]["responses"]["404"]["headers"].keys()
    for path, methods in paths.items():
        for operation in methods.values():
            tells = {
                status
                for status, response in operation["responses"].items()
                if "RateLimit" in response.get("headers", {})
            }
            expected = operation["responses"].keys() - {"401"} if operation["security"] else set()
            assert tells == expected, path


def test_what_is_refused_is_refused_before_its_body(api: Api) -> None:
    """The server calls this before it reads."""
    app = api.client.application
    cases: list[tuple[str, str | None]] = [
        ("", "unauthorized"),
        (f"Bearer {OF_SCOPE['read']}", "forbidden"),
        (f"Bearer {TWICE}", None),
        (f"Bearer {TWICE}", None),
        (f"Bearer {TWICE}", "too-many-requests"),
    ]
    for authorization, slug in cases:
        environ = EnvironBuilder("/ingest", method="POST").get_environ()
        environ |= {
            "HTTP_AUTHORIZATION": authorization,
            "CONTENT_LENGTH": "64",
            "wsgi.input": None,
        }
        refusal = admission.admit(app, environ)
        assert (refusal and refusal.get_json()["type"]) == (slug and f"/problems/{slug}")


@pytest.mark.parametrize("path", ["//queue", "///queue/", "/queue//", "/%71ueue", "queue"])
def test_no_way_of_writing_a_path_leads_around_the_keys(api: Api, path: str) -> None:
    """A server hands over what was sent; the view that would answer decides."""
    answer = api.client.get("/", environ_overrides={"PATH_INFO": path})
    assert answer.status_code == HTTPStatus.UNAUTHORIZED


def test_the_order_of_refusals_is_key_scope_rate_media_length(api: Api) -> None:
    wrong: dict[str, Any] = {"data": b"x" * 10, "content_type": "text/plain"}
    assert ask(api, secret(70), "/ingest", "POST", **wrong).status_code == 401
    assert ask(api, OF_SCOPE["read"], "/ingest", "POST", **wrong).status_code == 403
    statuses = [ask(api, TWICE, "/ingest", "POST", **wrong).status_code for _ in range(3)]
    assert statuses == [415, 415, 429]


def test_the_document_says_what_each_route_asks(api: Api) -> None:
    document = api.client.get("/openapi.json").get_json()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    ingest = document["paths"]["/ingest"]["post"]
    assert ingest["security"] == [{"key": ["submit"]}]
    assert {"401", "403", "429"} <= ingest["responses"].keys()
    assert document["paths"]["/health"]["get"]["security"] == []


def test_without_keys_the_document_says_that_none_is_needed() -> None:
    with serving(Settings(), threaded=False) as api:
        document = api.client.get("/openapi.json").get_json()
    assert document["paths"]["/queue"]["get"]["security"] == [{"key": ["read"]}, {}]
    assert {"401", "403", "429"} <= document["paths"]["/queue"]["get"]["responses"].keys()
