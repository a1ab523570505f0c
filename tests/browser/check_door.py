"""A page of another origin in the operator's browser: it tries everything and gets nowhere."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.browser.check_pages import CHROMIUM, browse, running, server
from tests.keys.support import secret, table, write

__all__ = ["server"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

#: Submits and pauses in every way that needs no permission from the other side.
PAGE = """<!doctype html><title>a game</title>
<link rel="icon" href="data:,">
<iframe name="hidden"></iframe>
<form id="form" target="hidden" method="post" enctype="text/plain" action="TARGET/queue/pause">
<input name='{"reason":"' value='form"}'></form>
<form id="empty" target="hidden" method="post" action="TARGET/queue/pause"></form>
<script>
const ids = '{"ids":[1],"priority":"HIGH"}';
const send = (path, body) => fetch("TARGET" + path, {method: "POST", mode: "no-cors", body});
async function attack() {
  document.getElementById("form").submit();
  await new Promise((done) => setTimeout(done, 300));
  document.getElementById("empty").submit();
  await send("/ingest", new Blob([ids]));
  await send("/ingest", new TextEncoder().encode(ids));
  await send("/queue/pause", new Blob(['{"reason":"blob"}']));
  await send("/queue/pause");
  navigator.sendBeacon("TARGET/ingest", new Blob([ids]));
  try { new WebSocket("TARGET/queue/pause".replace("http", "ws")); } catch (error) {}
  for (const path of ["/queue", "/ingestions", "/health"]) {
    try {
      const answer = await fetch("TARGET" + path);
      document.body.append("read " + path + " " + answer.status);
    } catch (error) {}
    const hidden = await fetch("TARGET" + path, {mode: "no-cors"});
    if (hidden.type !== "opaque" || await hidden.text()) document.body.append("read " + path);
  }
  await new Promise((done) => setTimeout(done, 300));
  document.title = "tried everything";
}
attack();
</script>
"""


class Elsewhere(ThreadingHTTPServer):
    """Serves the page, aimed at what its query names; counts what is posted to itself."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.posted: list[str] = []
        self.page = PAGE

    @property
    def address(self) -> str:
        """Where it is."""
        return f"http://localhost:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Elsewhere

    def do_GET(self) -> None:
        """Serve the page."""
        self.answer(self.server.page.replace("TARGET", self.path.partition("?")[2]))

    def do_POST(self) -> None:
        """Count it."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append(self.path)
        self.answer("")

    def answer(self, html: str) -> None:
        """Send `html`."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(html.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    """Run a server on another port of this machine."""
    with Elsewhere() as other:
        threading.Thread(target=other.serve_forever).start()
        try:
            yield other
        finally:
            other.shutdown()


def attack(target: str, profile: Path, *options: str) -> None:
    """Open the page, aimed at `target`, and let it do its worst; it must not read anything."""
    with elsewhere() as pages:
        address = f"{pages.address}/?{target}"
        done = browse(address, profile, "--dump-dom", *options, complaints=False)
    assert "<title>tried everything</title>" in done.stdout
    assert "read /" not in done.stdout.partition("</script>")[2]


#: Uses the API as a page may that the operator has named.
FRIEND = """<!doctype html><title>waiting</title><link rel="icon" href="data:,">
<script>
async function use() {
  const key = {"Authorization": "Bearer KEY", "Content-Type": "application/json"};
  const body = '{"ids":[1],"priority":"HIGH"}';
  const posted = await fetch("TARGET/ingest", {method: "POST", headers: key, body});
  const followed = await fetch("TARGET" + posted.headers.get("Location"), {headers: key});
  const paused = await fetch("TARGET/queue/pause", {method: "POST", headers: key});
  const nobody = await fetch("TARGET/queue");
  document.title = [posted, followed, paused, nobody].map((answer) => answer.status).join(" ");
}
use().catch((error) => { document.title = "failed: " + error; });
</script>
"""


def ask(address: str) -> dict[str, object]:
    """Return what the service answers to a reader."""
    with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 - our own server
        found: dict[str, object] = json.load(answer)
    return found


def test_the_attack_is_one(tmp_path: Path) -> None:
    """A server without a door takes all of it, so the next test means something."""
    with elsewhere() as victim:
        attack(victim.address, tmp_path)
        assert sorted(victim.posted) == ["/ingest"] * 3 + ["/queue/pause"] * 4


def test_a_page_from_elsewhere_changes_nothing(server: str, tmp_path: Path) -> None:
    """It is on another port of the same machine, which a browser calls the same site."""
    attack(server.replace("127.0.0.1", "localhost"), tmp_path)
    assert ask(f"{server}/health")["active_requests"] == 0
    assert ask(f"{server}/ingestions")["ingestions"] == []
    assert ask(f"{server}/queue")["state"] == "running"


def test_a_name_that_was_pointed_here_is_none_of_ours(server: str, tmp_path: Path) -> None:
    """The browser takes the page and the service for one site, as after DNS rebinding."""
    port = server.rpartition(":")[2]
    rebound = f"http://rebound.example:{port}"
    done = browse(
        f"{rebound}/ingestions",
        tmp_path,
        "--dump-dom",
        "--host-resolver-rules=MAP rebound.example 127.0.0.1",
        complaints=False,
    )
    assert "none of this machine" in done.stdout
    assert "next_cursor" not in done.stdout


@pytest.mark.parametrize("named", [True, False])
def test_a_page_that_is_named_uses_the_api_with_a_key(tmp_path: Path, named: bool) -> None:
    keys = write(
        tmp_path / "keys.toml", table("page", secret(), scopes='["submit", "read", "operate"]')
    )
    with elsewhere() as pages:
        origins = pages.address if named else "http://localhost:1"
        with running(INGEST_API_KEYS_FILE=keys, INGEST_CORS_ORIGINS=origins) as target:
            pages.page = FRIEND.replace("KEY", secret())
            done = browse(
                f"{pages.address}/?{target}", tmp_path / "profile", "--dump-dom", complaints=False
            )
    title = "200 200 200 401" if named else "failed: TypeError: Failed to fetch"
    assert f"<title>{title}</title>" in done.stdout
