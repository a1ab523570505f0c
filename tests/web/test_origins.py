"""Pages of other origins, names and proxies: what the operator can allow, and nothing else."""

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder

from ingest_service.front.refusals import Refused
from ingest_service.settings import Settings
from ingest_service.web import admission
from tests.keys.support import secret, table, write
from tests.support import serving

NAMED = "https://app.example"
IDS = {"ids": [1], "priority": "LOW"}
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type",
}


@pytest.fixture
def keys_file(tmp_path: Path) -> str:
    """Return a file with a key."""
    return write(tmp_path / "keys.toml", table("a", secret()))


@contextmanager
def client_of(**settings: Any) -> Iterator[FlaskClient]:
    """Give a client of a service with these settings."""
    with serving(Settings(**settings), threaded=False) as api:
        yield api.client


def test_a_page_that_is_named_may_ask_and_read(keys_file: str) -> None:
    with client_of(api_keys_file=keys_file, cors_origins=(NAMED,)) as client:
        asked = client.options("/ingest", headers={"Origin": NAMED, **PREFLIGHT})
        posted = client.post(
            "/ingest",
            json=IDS,
            headers={
                "Origin": NAMED,
                "Sec-Fetch-Site": "cross-site",
                "Authorization": f"Bearer {secret()}",
            },
        )
        refused = client.get("/queue", headers={"Origin": NAMED})
    assert (asked.status_code, asked.data) == (204, b"")
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert {"Authorization", "Content-Type"} <= set(
        asked.headers["Access-Control-Allow-Headers"].split(", ")
    )
    assert (posted.status_code, refused.status_code) == (200, 401)
    assert "Location" in posted.headers["Access-Control-Expose-Headers"]
    for answer in (asked, posted, refused):
        assert answer.headers["Access-Control-Allow-Origin"] == NAMED
        assert "Origin" in answer.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://app.example", f"{NAMED}.evil.example", "*"]
)
def test_a_page_that_is_not_named_gets_nothing(origin: str) -> None:
    with client_of(cors_origins=(NAMED, "http://localhost:3000")) as client:
        answers = [
            client.options("/ingest", headers={"Origin": origin, **PREFLIGHT}),
            client.post("/ingest", json=IDS, headers={"Origin": origin}),
            client.get("/queue", headers={"Origin": origin}),
        ]
    assert answers[1].status_code == 403
    for answer in answers:
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["Vary"] == "Origin"


def test_the_server_can_say_it_before_the_body_is_there() -> None:
    with client_of(cors_origins=(NAMED,)) as client:
        environ = EnvironBuilder(
            "/ingest", method="POST", headers=[("Origin", NAMED)]
        ).get_environ()
        environ["CONTENT_TYPE"] = "text/plain"
        refusal = admission.admit(client.application, environ)
    assert refusal is not None
    assert refusal.headers["Access-Control-Allow-Origin"] == NAMED


def test_what_the_server_refuses_by_itself_can_be_read_as_well() -> None:
    with client_of(cors_origins=(NAMED,)) as client:
        environ = EnvironBuilder("/queue", headers=[("Origin", NAMED)]).get_environ()
        refused = Refused("not-ready", "Too much.").answer(client.application, environ)
    assert (b"Access-Control-Allow-Origin", NAMED.encode()) in refused.headers


def test_long_names_are_not_remembered() -> None:
    """A stranger sends another one every time."""
    with client_of() as client:
        app = client.application
        tracemalloc.start()
        try:
            for number in range(100):
                host = f"{number}{'x' * 60_000}"
                assert admission.admit(app, EnvironBuilder(headers=[("Host", host)]).get_environ())
            gc.collect()
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert kept < 2**20


def test_without_such_pages_nothing_is_said_about_them() -> None:
    with client_of() as client:
        answer = client.options("/ingest", headers={"Origin": NAMED, **PREFLIGHT})
    assert "Vary" not in answer.headers
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control-")]


@pytest.mark.parametrize(
    ("settings", "let_in"),
    [
        ({}, False),
        ({"insecure": "yes"}, True),
        ({"insecure": "yes", "allowed_hosts": ("a.example",)}, False),
        ({"keys": True}, True),
        ({"keys": True, "allowed_hosts": ("a.example",)}, False),
        ({"keys": True, "allowed_hosts": ("b.example",)}, True),
    ],
)
def test_the_name_counts_while_it_is_all_that_keeps_pages_out(
    keys_file: str, settings: dict[str, Any], let_in: bool
) -> None:
    if settings.pop("keys", False):
        settings["api_keys_file"] = keys_file
    with client_of(**settings) as client:
        headers = {"Host": "b.example", "Authorization": f"Bearer {secret()}"}
        assert client.get("/queue", headers=headers).status_code == (200 if let_in else 403)


FORWARDED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "ingest.example",
}


@pytest.mark.parametrize("through_server", [True, False])
@pytest.mark.parametrize(("proxies", "status"), [(0, 403), (1, 200)])
def test_a_proxy_is_believed_only_if_it_is_trusted(
    proxies: int, status: int, through_server: bool
) -> None:
    """Behind one that ends TLS, a page of our own has another scheme and host than we see."""
    headers = {**FORWARDED, "Origin": "https://ingest.example", "Host": "localhost:8000"}
    settings = Settings(trusted_proxies=proxies, allowed_hosts=("ingest.example",))
    with serving(settings, threaded=False) as api:
        app = api.client.application
        if through_server:
            environ = EnvironBuilder(
                "/ingest", method="POST", headers=[*headers.items()]
            ).get_environ()
            refusal = admission.admit(app, environ)
            assert (refusal.status_code if refusal else 200) == status
            assert (environ.get("REMOTE_ADDR") == "203.0.113.9") is (proxies == 1)
        else:
            assert api.client.post("/ingest", json=IDS, headers=headers).status_code == status


def test_only_so_many_proxies_are_believed_as_there_are() -> None:
    """What a client itself has written comes before that."""
    with client_of(trusted_proxies=1) as client:
        told = {"X-Forwarded-Host": "localhost, evil.example"}
        assert client.get("/queue", headers=told).status_code == 403
        told = {"X-Forwarded-Host": "evil.example, localhost"}
        assert client.get("/queue", headers=told).status_code == 200
