"""With keys: pages are open, what they show is not."""

import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from ingest_service.keys.scope import Scope
from ingest_service.settings import Settings
from ingest_service.web.dashboard.sessions import COOKIE
from tests.keys.support import secret, table, write
from tests.support import Api, serving
from tests.web.dashboard.support import words
from tests.web.support import get

FULL, READER, OTHER, OWN, MODEST, TWICE = (secret(number) for number in range(1, 7))
ALL = '["submit", "read", "operate"]'
TABLES = (
    table("full", FULL, scopes=ALL),
    table("reader", READER, scopes='["read"]'),
    table("submitter", OTHER, scopes='["submit"]'),
    table("own", OWN, "own_only = true", scopes=ALL),
    table("modest", MODEST, 'max_priority = "MEDIUM"', scopes=ALL),
    table("twice", TWICE, "requests_per_minute = 2", scopes=ALL),
)


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    """Return where the keys file is."""
    return tmp_path / "keys.toml"


@pytest.fixture
def guarded(keys_file: Path) -> Iterator[Api]:
    """Give a service with keys."""
    settings = Settings(api_keys_file=write(keys_file, *TABLES))
    with serving(settings, threaded=False) as served:
        yield served


def sign_in(api: Api, key: str) -> TestResponse:
    """Show a key."""
    return api.client.post("/dashboard/sign-in", data={"key": key, "back": "/dashboard/submit"})


def test_every_page_declares_what_it_asks_for(guarded: Api) -> None:
    app = guarded.client.application
    asked = {
        rule.rule: vars(app.view_functions[rule.endpoint])["__shows__"]
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/dashboard")
    }
    assert {path.split("<")[0] for path, scope in asked.items() if scope is Scope.OPEN} == {
        "/dashboard/",
        "/dashboard/static/",
        "/dashboard/sign-in",
        "/dashboard/sign-out",
    }


@pytest.mark.parametrize("path", ["", "/ingestions", "/submit", "/find?id=x"])
def test_who_has_not_signed_in_sees_how_to_and_nothing_else(guarded: Api, path: str) -> None:
    answer = guarded.client.get(f"/dashboard{path}")
    assert answer.status_code == HTTPStatus.UNAUTHORIZED
    assert 'type="password"' in answer.text
    assert "Upstream" not in answer.text
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


def test_signing_in_gives_a_cookie_that_no_script_and_no_other_site_can_use(guarded: Api) -> None:
    answer = sign_in(guarded, FULL)
    cookie = answer.headers["Set-Cookie"]
    assert (answer.status_code, answer.location) == (303, "/dashboard/submit")
    for part in ("HttpOnly", "SameSite=Strict", "Path=/dashboard", "Max-Age=28800"):
        assert part in cookie
    assert FULL not in cookie
    assert guarded.client.get("/dashboard").status_code == HTTPStatus.OK


@pytest.mark.parametrize("key", ["", "x", FULL[:-1], secret(9), f"{FULL}\0", "é"])
def test_what_is_no_key_in_force_opens_nothing(guarded: Api, key: str) -> None:
    answer = sign_in(guarded, key)
    assert answer.status_code == HTTPStatus.UNAUTHORIZED
    assert "Set-Cookie" not in answer.headers
    assert "This is not a key that is in force." in words(answer)


def test_ten_tries_a_minute_are_enough_for_people(guarded: Api) -> None:
    statuses = [sign_in(guarded, "x").status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429], statuses
    refused = sign_in(guarded, FULL)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")
    guarded.advance(61)
    assert sign_in(guarded, FULL).status_code == 303


def test_the_cookie_ends_after_eight_hours(guarded: Api) -> None:
    sign_in(guarded, FULL)
    cookie = guarded.client.get_cookie(COOKIE, path="/dashboard")
    assert cookie is not None
    guarded.advance(8 * 3600 - 1)
    guarded.client.set_cookie(COOKIE, cookie.value, path="/dashboard")
    assert guarded.client.get("/dashboard").status_code == 200
    guarded.advance(2)
    guarded.client.set_cookie(COOKIE, cookie.value, path="/dashboard")
    assert guarded.client.get("/dashboard").status_code == 401


@pytest.mark.parametrize("tables", [TABLES[1:], (table("full", secret(9)), *TABLES[1:])])
def test_the_cookie_ends_with_the_key(
    guarded: Api, keys_file: Path, tables: tuple[str, ...]
) -> None:
    """Revoked, or replaced by one of the same name."""
    sign_in(guarded, FULL)
    write(keys_file, *tables)
    guarded.advance(2)
    assert guarded.client.get("/dashboard").status_code == 401


@pytest.mark.parametrize("change", [("full", "reader"), (".1", ".2"), ("0", "1"), ("a", "b")])
def test_a_cookie_that_was_changed_opens_nothing(guarded: Api, change: tuple[str, str]) -> None:
    sign_in(guarded, FULL)
    cookie = guarded.client.get_cookie(COOKIE, path="/dashboard")
    assert cookie is not None
    changed = cookie.value.replace(*change, 1)
    assert changed != cookie.value
    guarded.client.set_cookie(COOKIE, changed, path="/dashboard")
    assert guarded.client.get("/dashboard").status_code == 401


def test_who_signs_out_is_out(guarded: Api) -> None:
    sign_in(guarded, FULL)
    assert guarded.client.post("/dashboard/sign-out").status_code == 303
    assert guarded.client.get("/dashboard").status_code == 401


def test_a_cookie_asks_as_often_as_its_key_may_and_no_more(guarded: Api) -> None:
    """On the pages and over HTTP together; what everybody may see counts for nobody."""
    sign_in(guarded, TWICE)
    bearer = {"Authorization": f"Bearer {TWICE}"}
    first, second = guarded.client.get("/dashboard"), guarded.client.get("/queue", headers=bearer)
    assert [first.headers["RateLimit"], second.headers["RateLimit"]] == [
        '"requests";r=1;t=61',
        '"requests";r=0;t=61',
    ]
    form = {"items": "1", "priority": "LOW", "do": "send"}
    refused = guarded.client.post("/dashboard/submit", data=form)
    assert refused.status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert refused.headers["Retry-After"] == "61"
    assert "This key may ask 2 times a minute" in words(refused)
    assert guarded.client.get("/queue", headers=bearer).status_code == 429
    assert guarded.client.get("/dashboard/sign-in").status_code == HTTPStatus.OK
    assert get(guarded.client, "/health")["active_requests"] == 0
    guarded.advance(61)
    assert guarded.client.post("/dashboard/submit", data=form).status_code == 303


def test_the_cookie_opens_the_pages_and_not_the_api(guarded: Api) -> None:
    sign_in(guarded, FULL)
    cookie = guarded.client.get_cookie(COOKIE, path="/dashboard")
    assert cookie is not None
    answer = guarded.client.get("/queue", headers={"Cookie": f"{COOKIE}={cookie.value}"})
    assert answer.status_code == 401


def test_a_reader_sees_everything_and_is_offered_nothing(guarded: Api) -> None:
    sign_in(guarded, READER)
    html = guarded.client.get("/dashboard").text
    assert "Pause" not in html
    assert 'href="/dashboard/submit"' not in html
    assert guarded.client.post("/dashboard/pause").status_code == 403
    assert guarded.client.get("/dashboard/submit").status_code == 403
    assert "reader" in html


def test_a_command_that_is_shown_asks_with_a_key_and_fails_without(guarded: Api) -> None:
    """Otherwise what it downloads would be the refusal."""
    sign_in(guarded, FULL)
    key = '-H "Authorization: Bearer $INGEST_KEY"'
    for path in ("/dashboard", "/dashboard/ingestions"):
        assert f"curl {key} -H 'Content-Type: " in words(guarded.client.get(path))
    form = {"items": "1 2", "priority": "HIGH", "do": "send"}
    ingestion_id = guarded.client.post("/dashboard/submit", data=form).location.rpartition("/")[2]
    at = f"http://localhost/status/{ingestion_id}"
    one = words(guarded.client.get(f"/dashboard/ingestions/{ingestion_id}"))
    assert f"curl {key} '{at}?wait=30'" in one
    assert f"curl {key} -f -o {ingestion_id}.csv '{at}/results?format=csv'" in one


def test_what_the_foot_of_a_page_leads_to_is_there_for_who_has_signed_in(guarded: Api) -> None:
    foot = re.compile("<footer>.*</footer>", re.DOTALL)
    asked = guarded.client.get("/dashboard/rate-proof")
    assert (asked.status_code, asked.mimetype) == (HTTPStatus.UNAUTHORIZED, "text/html")
    sign_in(guarded, FULL)
    (found,) = foot.findall(guarded.client.get("/dashboard").text)
    leads_to = re.findall('href="([^"]*)"', found)
    assert "/dashboard/rate-proof" in leads_to
    for path in leads_to:
        assert guarded.client.get(path).status_code == HTTPStatus.OK
    proof = guarded.client.get("/dashboard/rate-proof").get_json()
    bearer = {"Authorization": f"Bearer {FULL}"}
    assert proof == guarded.client.get("/rate-proof", headers=bearer).get_json()
    assert guarded.client.get("/dashboard/rate-proof?from=x").mimetype == "text/html"


def test_who_may_not_read_is_told_so_and_nothing_else(guarded: Api) -> None:
    sign_in(guarded, OTHER)
    answer = guarded.client.get("/dashboard")
    assert answer.status_code == 403
    assert "`read`" in words(answer)
    assert "Upstream" not in answer.text


def test_who_sees_only_its_own_sees_only_that(guarded: Api) -> None:
    sign_in(guarded, FULL)
    posted = guarded.client.post(
        "/dashboard/submit", data={"items": "1 2", "priority": "HIGH", "do": "send"}
    )
    address = posted.location
    assert "by full" in words(guarded.client.get(address))
    sign_in(guarded, OWN)
    assert guarded.client.get(address).status_code == 404
    now = guarded.client.get("/dashboard")
    assert address not in now.text
    assert "somebody else" in words(now)
    assert "Pause" not in now.text
    assert "/dashboard/ingestions/" not in guarded.client.get("/dashboard/ingestions").text


def test_a_class_above_what_the_key_may_ask_for_is_refused(guarded: Api) -> None:
    sign_in(guarded, MODEST)
    form = {"items": "1", "priority": "HIGH", "do": "send"}
    assert guarded.client.post("/dashboard/submit", data=form).status_code == 403
    form["priority"] = "MEDIUM"
    posted = guarded.client.post("/dashboard/submit", data=form)
    ingestion_id = posted.location.rpartition("/")[2]
    move = {"action": "move", "priority": "HIGH", "id": ingestion_id}
    assert guarded.client.post("/dashboard/act", data=move).status_code == 403
