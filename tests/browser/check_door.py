"""A page of another origin in the operator's browser: it tries everything and gets nowhere."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.browser.check_pages import CHROMIUM, browse, server

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
  await new Promise((done) => setTimeout(done, 300));
  document.title = "tried everything";
}
attack();
</script>
"""


@pytest.fixture
def elsewhere(server: str) -> Iterator[str]:
    """Serve the page from another port of this machine; give its address."""
    html = PAGE.replace("TARGET", server.replace("127.0.0.1", "localhost")).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name that http.server expects
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as pages:
        threading.Thread(target=pages.serve_forever).start()
        yield f"http://localhost:{pages.server_port}"
        pages.shutdown()


def ask(address: str) -> dict[str, object]:
    """Return what the service answers to a reader."""
    with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 - our own server
        found: dict[str, object] = json.load(answer)
    return found


def test_a_page_from_elsewhere_changes_nothing(
    server: str, elsewhere: str, tmp_path: Path
) -> None:
    """It is on another port of the same machine, which a browser calls the same site."""
    done = browse(elsewhere, tmp_path, "--dump-dom", complaints=False)
    assert "<title>tried everything</title>" in done.stdout
    # Every attempt arrived, and was refused.
    assert done.stderr.count("403 (FORBIDDEN)") >= 1
    assert ask(f"{server}/health")["active_requests"] == 0
    assert ask(f"{server}/ingestions")["ingestions"] == []
    assert ask(f"{server}/queue")["state"] == "running"
