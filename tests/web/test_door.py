"""Who may come in while there are no keys: not the page of another site in somebody's browser."""

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from werkzeug.datastructures import Headers

from ingest_service.settings import Settings
from ingest_service.web.door import refusal
from tests.support import serving

BODY = {"ids": [1], "priority": "LOW"}
OURS = (
    "localhost",
    "localhost:8000",
    "LOCALHOST:1",
    "127.0.0.1",
    "127.0.0.1:8000",
    "127.8.9.10",
    "[::1]",
    "[::1]:8000",
    "ingest.example",
    "INGEST.example:8443",
    "10.0.0.7:80",
    "[fd00::7]:80",
)
STRANGE = (
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "127.0.0.1@evil.example",
    "evil.example/localhost",
    "localhost:8000:80",
    "localhost, evil.example",
    "ingest.example.",
    "xingest.example",
    "10.0.0.8",
    "0.0.0.0",  # noqa: S104 - nobody binds to it
    "2130706433",
    "::1",
    "[::1",
    "[::2]",
    "x:99999999",
    "ü",
    " ",
)
#: Host, scheme, and an origin that is the same.
SAME = (
    ("localhost:8000", "http", "http://localhost:8000"),
    ("LOCALHOST:8000", "http", "HTTP://LocalHost:8000"),
    ("localhost", "http", "http://localhost"),
    ("localhost:80", "http", "http://localhost"),
    ("localhost", "http", "http://localhost:80"),
    ("ingest.example", "https", "https://ingest.example"),
    ("ingest.example:443", "https", "https://ingest.example"),
    ("[::1]:8000", "http", "http://[::1]:8000"),
)
FOREIGN = (
    "null",
    "",
    "http://evil.example",
    "http://localhost:8001",
    "http://localhost",
    "https://localhost:8000",
    "http://127.0.0.1:8000",
    "http://localhost:8000.evil.example",
    "http://localhost:8000@evil.example",
    "http://evil.example/http://localhost:8000",
    "localhost:8000",
    "//localhost:8000",
    "file://",
    "chrome-extension://localhost:8000",
    "http://[::1",
    "http://localhost:8000, http://evil.example",
)
CHANGES = (
    ("POST", "/ingest"),
    ("POST", "/ingestions/x/cancel"),
    ("PATCH", "/ingestions/x"),
    ("POST", "/ingestions/x/retry"),
    ("PATCH", "/queue"),
    ("POST", "/queue/pause"),
    ("POST", "/queue/resume"),
    ("PUT", "/nowhere"),
    ("DELETE", "/ingestions/x"),
)


def asked(method: str = "POST", scheme: str = "http", **headers: str) -> bool:
    """Tell whether a request with these headers is let in."""
    given = Headers({name.replace("_", "-"): value for name, value in headers.items()})
    allowed = ("ingest.example", "10.0.0.7", "[fd00::7]")
    return refusal(method, "/queue", scheme, given, allowed) is None


@pytest.mark.parametrize("host", OURS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_name_of_this_machine_or_an_allowed_one_is_let_in(host: str, method: str) -> None:
    assert asked(method, Host=host)


@pytest.mark.parametrize("host", STRANGE)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_name_is_not_also_when_it_only_reads(host: str, method: str) -> None:
    """A page whose owner points its name here could read everything."""
    assert not asked(method, Host=host)


def test_a_client_without_a_host_is_no_browser() -> None:
    assert asked()


@pytest.mark.parametrize(("host", "scheme", "origin"), SAME)
def test_a_page_of_our_own_may_change_things(host: str, scheme: str, origin: str) -> None:
    assert asked(scheme=scheme, Host=host, Origin=origin, Sec_Fetch_Site="same-origin")


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_page_of_another_origin_may_not_but_may_ask(origin: str) -> None:
    """What it asks for, its browser does not show it."""
    assert not asked(Host="localhost:8000", Origin=origin)
    assert asked("GET", Host="localhost:8000", Origin=origin)


@pytest.mark.parametrize(
    ("site", "let_in"),
    [("cross-site", False), ("Cross-Site", False), ("same-origin", True), ("none", True)],
)
def test_what_the_browser_calls_another_site_may_not(site: str, let_in: bool) -> None:
    assert asked(Host="localhost", Sec_Fetch_Site=site) is let_in
    assert asked("GET", Host="localhost", Sec_Fetch_Site=site)


@pytest.fixture
def client() -> Iterator[FlaskClient]:
    """Give a client of a service that another machine may call `ingest.example`."""
    with serving(Settings(allowed_hosts=("ingest.example",)), threaded=False) as api:
        yield api.client


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_every_change_is_refused_before_anything_else(
    client: FlaskClient, method: str, path: str
) -> None:
    for header in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = client.open(path, method=method, headers=header, json=BODY)
        body = answer.get_json()
        assert (answer.status_code, body["type"]) == (403, "/problems/forbidden")
        assert body["detail"] == body["error"] != ""
    assert client.get("/health").get_json()["active_requests"] == 0
    assert client.get("/queue").get_json()["state"] == "running"


@pytest.mark.parametrize("path", ["/", "/queue", "/status/x", "/docs", "/openapi.json", "/nowhere"])
def test_another_name_gets_nothing_but_the_health(client: FlaskClient, path: str) -> None:
    """Load balancers ask for it by address."""
    strange = {"Host": "10.1.2.3:8000"}
    answer = client.get(path, headers=strange)
    assert (answer.status_code, answer.get_json()["type"]) == (403, "/problems/forbidden")
    assert "INGEST_ALLOWED_HOSTS" in answer.get_json()["detail"]
    for health in ("/health", "/health/live", "/health/ready"):
        assert client.get(health, headers=strange).status_code != 403
    assert client.get("/healthy", headers=strange).status_code == 403


def test_an_allowed_name_and_its_own_pages_are_let_in(client: FlaskClient) -> None:
    own = {"Host": "ingest.example", "Origin": "http://ingest.example"}
    assert client.post("/ingest", json=BODY, headers=own).status_code == 200
