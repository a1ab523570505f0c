"""The real server with keys: its door, its reload, and what it never writes anywhere."""

import http.client
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.server import BOOT, Answer, Server
from tests.crash.waiting import eventually
from tests.keys.support import secret, table, write

IDS = {"ids": [1], "priority": "HIGH"}
KEY = secret(1)
UPSTREAM_SECRET = "hunter2-of-the-upstream"  # noqa: S105 - it opens nothing
EVERYWHERE = "0.0.0.0"  # noqa: S104 - refused, or with keys


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    """Return a file with one key."""
    path = tmp_path / "keys.toml"
    write(path, table("mine", KEY))
    return path


@pytest.fixture
def server(tmp_path: Path, keys_file: Path) -> Iterator[Server]:
    """Give a server with keys, and an upstream that wants a secret and is not there."""
    headers = tmp_path / "headers"
    headers.touch(0o600)
    headers.write_text(f"Authorization: Bearer {UPSTREAM_SECRET}\n")
    made = Server(
        tmp_path / "journal.sqlite3",
        tmp_path / "log",
        api_keys_file=keys_file,
        upstream="http://127.0.0.1:9/{id}",
        upstream_headers_file=headers,
        interval=0,
        settle=0,
        backoff=0,
        max_attempts=1,
        log_level="DEBUG",
    )
    made.start()
    yield made
    made.kill()


def ask(server: Server, method: str, path: str, key: str = KEY, body: object = None) -> Answer:
    """Send a request with a key."""
    return server.request(method, path, body, {"Authorization": f"Bearer {key}"})


def refused_start(tmp_path: Path, *options: str, **settings: Any) -> list[str]:
    """Assert that a server with these settings does not start; return what it says."""
    server = Server(tmp_path / "journal.sqlite3", tmp_path / "log", *options, **settings)
    server.launch()
    assert server.wait(BOOT) != 0
    return [line for line in server.logged().splitlines() if line.startswith("ingest_service: ")]


def test_a_network_is_let_in_only_with_keys(tmp_path: Path, keys_file: Path) -> None:
    asked: tuple[tuple[tuple[str, ...], dict[str, object]], ...] = (
        ((), {"host": EVERYWHERE}),
        (("-b", f"{EVERYWHERE}:0"), {}),
    )
    for options, settings in asked:
        (line,) = refused_start(tmp_path, *options, **settings)
        assert "keys --file keys.toml new NAME" in line
        (tmp_path / "log").unlink()
    allowing: tuple[dict[str, Any], ...] = (
        {"insecure": "yes"},
        {"api_keys_file": str(keys_file)},
    )
    for given in allowing:
        server = Server(tmp_path / "journal.sqlite3", tmp_path / "log", host=EVERYWHERE, **given)
        server.start()
        server.kill()


def test_an_inherited_socket_is_judged_as_well(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind((EVERYWHERE, 0))
        listener.listen()
        os.set_inheritable(listener.fileno(), True)
        server = Server(
            tmp_path / "journal.sqlite3", tmp_path / "log", "-b", f"fd://{listener.fileno()}"
        )
        server.launch(pass_fds=(listener.fileno(),))
        assert server.wait(BOOT) != 0
    assert "can be reached from other machines" in server.logged()


def test_a_wrong_keys_file_ends_the_start_with_one_line(tmp_path: Path) -> None:
    wrong = write(tmp_path / "wrong.toml", table("mine", KEY, scopes='["reed"]'))
    (line,) = refused_start(tmp_path, api_keys_file=wrong)
    assert "line 4: key 'mine': `scopes` must be" in line


def test_a_changed_file_counts_within_two_seconds(server: Server, keys_file: Path) -> None:
    assert ask(server, "GET", "/queue").status == 200
    write(keys_file, table("another", secret(2)))
    began = time.monotonic()
    eventually(lambda: ask(server, "GET", "/queue").status == 401, 5.0)
    assert time.monotonic() - began < 2.0
    assert ask(server, "GET", "/queue", secret(2)).status == 200


def test_a_large_body_is_refused_before_it_is_sent(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.putrequest("POST", "/ingest")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(64 * 2**20))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    connection.close()


def test_no_secret_is_written_anywhere(server: Server, keys_file: Path) -> None:
    """In use, in every wrong place, and while things fail."""
    answers = [
        ask(server, "POST", "/ingest", body=IDS),
        ask(server, "GET", f"/queue?key={KEY}"),
        server.request("GET", f"/ingestions?access_token={KEY}"),
        server.request("GET", "/queue", headers={"X-API-Key": KEY}),
        ask(server, "GET", "/queue", KEY + "x"),
        server.request("POST", "/ingest", {KEY: KEY, "priority": 1}),
        ask(server, "PATCH", "/queue", body={"interval_seconds": -1}),
        ask(server, "GET", "/nowhere"),
        server.request("GET", "/health"),
    ]
    eventually(lambda: server.request("GET", "/health").json()["active_requests"] == 0, 20.0)
    answers += [
        ask(server, "GET", f"/status/{answers[0].json()['ingestion_id']}/results"),
        ask(server, "GET", "/ingestions"),
        server.request("GET", "/openapi.json"),
    ]
    write(keys_file, table("mine", KEY), f'key = "{KEY}"\n')
    time.sleep(1.1)
    ask(server, "GET", "/queue")
    eventually(lambda: "file_unusable" in server.logged(), 5.0)
    titles = server.titles()
    server.stop()
    written = [each.body for each in answers] + [str(each.headers).encode() for each in answers]
    folder = server.journal.parent
    kept = [path.read_bytes() for path in folder.iterdir() if path.name.startswith("journal")]
    for text in (server.logged().encode(), titles, *kept, *written):
        assert KEY.encode() not in text
        assert UPSTREAM_SECRET.encode() not in text
