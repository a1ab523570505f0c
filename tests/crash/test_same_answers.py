"""What the running server answers is what the application answers: no more, no less."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest
from flask.testing import FlaskClient

from ingest_service.app import create_app
from ingest_service.settings import Settings
from tests.crash.raw import Raw, head
from tests.crash.server import Server, well_behaved

_IDLE: dict[str, Any] = {"interval": 3_600, "settle": 3_600}
_BODY = b'{"ids": [1, 2, 3], "priority": "LOW"}'
_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE")
#: What differs from one process, request or moment to the next.
_PASSING = re.compile(
    rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:.]+Z|uptime[^,}]*"
)
#: Of the server alone, and of every answer anew.
_OWN = frozenset(("server", "date", "connection", "transfer-encoding", "x-request-id", "etag"))


#: Methods come in any order, and a retry may be a second nearer.
_SAME: dict[str, Callable[[str], str]] = {
    "allow": lambda value: ", ".join(sorted(value.split(", "))),
    "retry-after": lambda _: "",
}


#: Routes whose answers tell of the process and of the moment.
_OF_THE_MOMENT = ("/metrics", "/dashboard")
#: What is asked where it would tell in which minute something was done: the two are not in step.
_ASKED = {"/queue/history": "?from=2026-01-01T00:00:00Z&to=2026-01-01T01:00:00Z"}


class Seen(NamedTuple):
    """An answer, as far as it can be compared."""

    status: int
    headers: Counter[tuple[str, str]]
    body: bytes

    def without_content(self) -> "Seen":
        """Return it without what it says, and how long that is."""
        kept = {field: n for field, n in self.headers.items() if field[0] != "content-length"}
        return Seen(self.status, Counter(kept), b"")


def _seen(status: int, headers: list[tuple[str, str]], body: bytes) -> Seen:
    fields = [(name.lower(), value) for name, value in headers if name.lower() not in _OWN]
    fields = [(name, _SAME.get(name, str)(value)) for name, value in fields]
    return Seen(
        status,
        Counter((name, _PASSING.sub(b"*", value.encode()).decode()) for name, value in fields),
        _PASSING.sub(b"*", body),
    )


def _rules() -> list[str]:
    rules = {str(rule) for rule in create_app(Settings()).url_map.iter_rules()}
    return sorted(rules)


class Both:
    """The server and the application alone, each with one ingestion of the same kind."""

    def __init__(self, server: Server, client: FlaskClient) -> None:
        self._server = server
        self._client = client
        posted = server.request("POST", "/ingest", json.loads(_BODY))
        self._there = posted.json()["ingestion_id"]
        answer = client.post("/ingest", data=_BODY, content_type="application/json")
        self._here = answer.get_json()["ingestion_id"]

    def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> list[Seen]:
        """Return what both answer; `*` in the path stands for the ingestion of each."""
        with Raw(self._server.port) as raw:
            fields = [f"{name}: {value}" for name, value in (headers or {}).items()]
            length = [] if method in ("GET", "HEAD", "OPTIONS") else ["Content-Length: 0"]
            raw.send(head(method, path.replace("*", self._there), *fields, *length))
            # If anything but one whole answer came, this would not be the next.
            raw.send(head("GET", "/nowhere", "Connection: close"))
            there = _parsed(raw, method)
            follow_up = raw.answer()
            assert follow_up.status == 404
            assert follow_up.json()["type"] == "/problems/not-found"
            assert raw.is_closed()
        answer = self._client.open(
            path.replace("*", self._here),
            method=method,
            content_type="application/json",
            headers=dict(headers or {}),
        )
        here = _seen(answer.status_code, list(answer.headers.items()), answer.data)
        return [there, here]


def _parsed(raw: Raw, method: str) -> Seen:
    status = int(raw._file.readline().split()[1])
    headers = []
    while (line := raw._file.readline()) != b"\r\n":
        name, _, value = line.decode("latin-1").rstrip("\r\n").partition(": ")
        headers.append((name, value))
    fields = {name.lower(): value for name, value in headers}
    body = b""
    if method == "HEAD" or status in (204, 304):
        pass
    elif "chunked" in fields.get("transfer-encoding", ""):
        while size := int(raw._file.readline(), 16):
            body += raw._file.read(size)
            raw._file.readline()
        raw._file.readline()
    else:
        body = raw._file.read(int(fields["content-length"]))
    return _seen(status, headers, body)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Give a server, and an application with the same settings and as little to do."""
    folder = tmp_path_factory.mktemp("same")
    app = create_app(Settings(**_IDLE, journal=str(folder / "other-journal")))
    try:
        with well_behaved(Server(folder / "journal", folder / "log", **_IDLE)) as server:
            yield Both(server, app.test_client())
    finally:
        app.extensions["ingest_parts"].close(5)


@pytest.mark.parametrize("method", _METHODS)
@pytest.mark.parametrize("rule", _rules())
def test_every_route_is_answered_as_the_application_answers(
    both: Both, rule: str, method: str
) -> None:
    """Status, headers as often as they are said, body; and nothing between two answers."""
    path = re.sub(r"<ingestion:[^>]*>", "*", rule)
    path = re.sub(r"<[^>]*>", "index.css", path)
    there, here = both.ask(method, path + _ASKED.get(rule, ""))
    if rule.startswith(_OF_THE_MOMENT):
        there, here = there.without_content(), here.without_content()
    assert there == here


def test_what_is_known_already_has_no_body(both: Both) -> None:
    """304, and what follows on the connection is the next answer."""
    there, here = both.ask("GET", "/openapi.json", {"If-None-Match": "*"})
    assert there == here
    there, here = both.ask("GET", "/status/*", {"If-None-Match": "*"})
    assert (there.status, there.body) == (304, b"")
    assert there == here
