"""Keys that see only their own, and may have so much waiting, as their clients meet them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from ingest_service.keys.key import digest_of, fresh_key
from ingest_service.settings import Settings
from tests.support import Api, serving

KEYS = {name: fresh_key() for name in ("anna", "bert", "boss")}
ALL = '["submit", "read", "operate"]'
EVERYTHING_NAMED = [
    ("GET", "/status/{}", None),
    ("GET", "/status?ingestion_id={}", None),
    ("GET", "/status/{}?wait=1", None),
    ("GET", "/status/{}/results", None),
    ("GET", "/status/{}/results?format=ndjson", None),
    ("POST", "/ingestions/{}/cancel", None),
    ("POST", "/ingestions/{}/retry", None),
    ("PATCH", "/ingestions/{}", {"priority": "HIGH"}),
    ("DELETE", "/ingestions/{}", None),
]


@pytest.fixture
def still(tmp_path: Path) -> Iterator[Api]:
    """Give a service with three keys, the first two of which see only their own."""
    path = tmp_path / "keys.toml"
    path.touch(0o600)
    path.write_text(
        "\n".join(
            f'[[keys]]\nname = "{name}"\nsha256 = "{digest_of(key).hex()}"\nscopes = {ALL}\n'
            f"own_only = {str(name != 'boss').lower()}\nmax_queued_items = 10\n"
            for name, key in KEYS.items()
        )
    )
    with serving(Settings(api_keys_file=str(path), settle=0), threaded=False) as api:
        yield api


def ask(api: Api, name: str, method: str, path: str, body: Any = None) -> TestResponse:
    """Ask with a key."""
    headers = {"Authorization": f"Bearer {KEYS[name]}"}
    return api.client.open(path, method=method, json=body, headers=headers, buffered=True)


def submit(api: Api, name: str, count: int = 1) -> TestResponse:
    """Submit ids with a key."""
    body = {"ids": list(range(1, count + 1)), "priority": "LOW"}
    return ask(api, name, "POST", "/ingest", body)


@pytest.mark.parametrize("seconds", [0.0, 20.0], ids=["waiting", "finished"])
@pytest.mark.parametrize(("method", "path", "body"), EVERYTHING_NAMED)
def test_anothers_ingestion_is_answered_as_one_that_never_was(
    still: Api, method: str, path: str, body: Any, seconds: float
) -> None:
    """Word for word, whatever its state."""
    one = submit(still, "bert").get_json()["ingestion_id"]
    still.advance(seconds)
    others = ask(still, "anna", method, path.format(one), body)
    unknown = ask(still, "anna", method, path.format(one[::-1]), body)

    assert (others.status_code, others.data) == (404, unknown.data)
    # Where it is there to be waited for, nothing would end the wait in frozen time.
    path = path.removesuffix("?wait=1")
    assert ask(still, "boss", method, path.format(one), body).status_code in (200, 409)


def _bodies(rule: str) -> Any:
    return {
        "/ingest": {"ids": [1], "priority": "LOW"},
        "/queue": {"interval_seconds": 1},
        "/queue/pause": {"reason": "x"},
    }.get(rule, {"priority": "HIGH"})


@pytest.mark.parametrize("seconds", [0.0, 0.5, 20.0], ids=["waiting", "under way", "finished"])
def test_no_route_tells_a_stranger_anything(still: Api, seconds: float) -> None:
    """Walks all there are, so that a new one that does not ask who asks is found."""
    one = submit(still, "bert").get_json()["ingestion_id"]
    unknown = f"{one[:-1]}{'1' if one[-1] == '0' else '0'}"
    still.advance(seconds)
    # Pages are asked with a cookie.
    still.client.post("/dashboard/sign-in", data={"key": KEYS["anna"]})
    named = set()
    for rule in still.client.application.url_map.iter_rules():
        if rule.endpoint.startswith("dashboard_gate"):
            continue
        for method in sorted((rule.methods or set()) - {"OPTIONS"}):
            form = re.sub(r"<any\('([^']+)'.*?>", r"\1", rule.rule)
            path = re.sub("<ingestion:[a-z_]+>", "{}", form)
            body = None if method in ("GET", "HEAD") else _bodies(rule.rule)
            told = ask(still, "anna", method, path.replace("{}", one), body)
            assert '"bert"' not in told.text, rule
            if "{}" not in path:
                assert one not in told.text, rule
                continue
            other = ask(still, "anna", method, path.replace("{}", unknown), body)
            # A page says again what was asked for.
            texts = told.text.replace(one, ""), other.text.replace(unknown, "")
            assert (told.status_code, texts[0]) == (404, texts[1]), rule
            if not path.startswith("/dashboard/"):
                named.add((method, path))
    for path in (f"/status?ingestion_id={one}", "/ingestions?submitted_by=bert", "/audit?key=bert"):
        assert one not in ask(still, "anna", "GET", path).text
    assert named - {("HEAD", "/status/{}"), ("HEAD", "/status/{}/results")} <= {
        (method, path) for method, path, _ in EVERYTHING_NAMED
    }


def test_whose_it_is_and_who_did_it_go_by_the_names_of_the_keys(still: Api) -> None:
    one = submit(still, "bert").get_json()["ingestion_id"]
    ask(still, "boss", "POST", f"/ingestions/{one}/cancel")
    status = ask(still, "bert", "GET", f"/status/{one}").get_json()
    entries = ask(still, "boss", "GET", "/audit").get_json()["entries"]
    queue = ask(still, "anna", "GET", "/queue?x=1").get_json()

    assert status["submitted_by"] == "bert"
    assert [(entry["key"], entry["action"]) for entry in entries if entry["target"] == one] == [
        ("boss", "cancel"),
        ("bert", "submit"),
    ]
    assert ask(still, "anna", "GET", "/ingestions").get_json()["ingestions"] == []
    assert queue["next"] == []


def test_the_queue_is_not_for_a_key_that_sees_only_its_own_to_stop(still: Api) -> None:
    refused = ask(still, "anna", "POST", "/queue/pause")
    assert (refused.status_code, refused.get_json()["type"]) == (403, "/problems/forbidden")
    assert ask(still, "boss", "POST", "/queue/pause").status_code == 200


def test_too_much_of_one_key_is_refused_until_there_is_room(still: Api) -> None:
    """With when that will be; what alone is too much is not to be sent again."""
    submit(still, "anna", 10)
    refused = submit(still, "anna", 4)
    never = submit(still, "anna", 11)

    assert (refused.status_code, refused.get_json()["type"]) == (429, "/problems/too-many-requests")
    assert refused.headers["Retry-After"] == "5"
    assert refused.get_json()["detail"] == (
        "This key may have 10 items waiting. There will be room in 5 s."
    )
    assert (never.status_code, "Retry-After" in never.headers) == (429, False)
    assert submit(still, "bert", 10).status_code == 200
