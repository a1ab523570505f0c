"""The pages for people: complete, self-contained, and not to be talked into anything."""

import json
import re
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from ingest_service.settings import Settings
from ingest_service.web.problems import PROBLEMS
from tests.support import Api, serving

PAGES = ("/docs", "/redoc")
HOSTILE = (
    "<svg onload=alert(1)>",
    "'; DROP TABLE x;--",
    "{{7*7}}",
    "../../etc",
    "\u202egnp.exe",
    "\0",
    "\\u0000",
)


@pytest.fixture
def still() -> Iterator[Api]:
    """Give a service whose worker rests until time is advanced."""
    with serving(Settings(), threaded=False) as served:
        yield served


@pytest.fixture
def client(still: Api) -> FlaskClient:
    """Give a client of `still`."""
    return still.client


def references(html: str) -> list[str]:
    """Return the addresses in `html`."""
    return re.findall(r"""(?:href|src|action)=["']([^"']*)""", html)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_refers_only_to_what_the_service_has(client: FlaskClient, page: str) -> None:
    html = client.get(page).text
    found = references(html)

    assert found
    for address in found:
        if address.startswith("#"):
            assert f'id="{address[1:]}"' in html
        else:
            assert address.startswith("/")
            assert not address.startswith("//")
            with client.get(address) as answer:
                assert answer.status_code == 200, address


@pytest.mark.parametrize("page", PAGES)
def test_a_page_may_load_nothing_from_elsewhere(client: FlaskClient, page: str) -> None:
    answer = client.get(page)
    policy = answer.headers["Content-Security-Policy"]

    assert answer.content_type == "text/html; charset=utf-8"
    assert "default-src 'self'" in policy
    assert "script-src" not in policy
    assert "//" not in policy
    assert not re.search(r"<script(?! src=)|\son\w+=", answer.text)


def test_styles_and_our_own_script_name_no_other_host(client: FlaskClient) -> None:
    for asset in ("/static/reference.css", "/static/swagger-ui-start.js", "/docs/swagger-ui.css"):
        with client.get(asset) as answer:
            text = answer.get_data(as_text=True)
        assert not re.search(r"url\(\s*[\"']?(https?:)?//|@import|fetch\(", text), asset


def test_assets_may_be_kept_and_pages_not(client: FlaskClient) -> None:
    with client.get("/docs/swagger-ui.css") as asset:
        assert "max-age=86400" in asset.headers["Cache-Control"]
    assert client.get("/docs").headers["Cache-Control"] == "no-store"


def test_only_the_files_of_swagger_ui_that_are_used_are_served(client: FlaskClient) -> None:
    for name in ("index.html", "swagger-initializer.js", "swagger-ui.js", "package.json"):
        assert client.get(f"/docs/{name}").status_code == 404


def test_the_reference_explains_every_operation_and_problem(client: FlaskClient) -> None:
    html = client.get("/redoc").text
    for methods in client.get("/openapi.json").get_json()["paths"].values():
        for operation in methods.values():
            assert f'id="{operation["operationId"]}"' in html
            assert operation["summary"] in html
    for slug in PROBLEMS:
        assert f'href="/problems/{slug}"' in html
    assert "`" not in re.sub("<pre>.*?</pre>", "", html, flags=re.DOTALL)


def test_a_problem_leads_to_its_explanation(client: FlaskClient) -> None:
    problem = client.post("/ingest", data=b"{").get_json()
    page = client.get(problem["type"]).get_json()
    assert (page["title"], page["status"]) == (problem["title"], problem["status"])
    assert page["explanation"]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_hostile_text_is_kept_literally_and_always_sent_as_json(still: Api, text: str) -> None:
    mapping = {"id": text, "source": text, "target": text, "transformation": {text: text}}
    posted = still.client.post("/ingest", json={"mappings": [mapping], "priority": "LOW"})
    assert posted.status_code == 200
    still.advance(5)
    where = posted.headers["Location"]
    status, results = (still.client.get(where + end) for end in ("", "/results"))

    for answer in (status, results):
        assert answer.content_type == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert json.loads(status.data)["batches"][0]["mapping_ids"] == [text]
    (result,) = json.loads(results.data)["results"]
    assert result["mapping_id"] == text
    assert result["processed_data"] == {"got": mapping}


def test_a_hostile_address_is_not_repeated_as_html(client: FlaskClient) -> None:
    for path in ("/<svg onload=alert(1)>", "/problems/<b>", "/status/<b>"):
        answer = client.get(path)
        assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
