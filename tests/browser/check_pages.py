"""The pages for people, in a real browser against the real server: `make test-browser`."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1300,2600",
    "--virtual-time-budget=8000",
    "--enable-logging=stderr",
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@contextmanager
def running(**settings: str) -> Iterator[str]:
    """Run the server on a free port of this machine; give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = os.environ | {"PORT": str(port), "INGEST_JOURNAL": "memory"} | settings
    with subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "wsgi:app"],
        cwd=ROOT,
        env=environ,
        stderr=subprocess.DEVNULL,
    ) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            wait_until_it_answers(address)
            yield address
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Give the address of a server as it is without settings."""
    with running() as address:
        yield address


def wait_until_it_answers(address: str) -> None:
    """Return once the server answers."""
    for _ in range(100):
        try:
            urllib.request.urlopen(f"{address}/health/ready", timeout=5).close()  # noqa: S310
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the server did not start")


def browse(
    url: str, profile: Path, *action: str, complaints: bool = True
) -> subprocess.CompletedProcess[str]:
    """Open `url`; fail if the page complained on its console, and `complaints` count."""
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", *action, url]
    done = subprocess.run(  # noqa: S603 - a browser
        command, capture_output=True, text=True, timeout=60, check=True
    )
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert said == [] or not complaints
    return done


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("/docs", ['id="operations-Ingestions-ingest_submit"', "opblock-post", "Submit items"]),
        ("/redoc", ['id="ingest_submit"', 'class="method post"', "Submit items", "queue-full"]),
    ],
)
def test_a_page_shows_the_operations(
    server: str, tmp_path: Path, page: str, expected: list[str]
) -> None:
    dom = browse(server + page, tmp_path, "--dump-dom").stdout
    assert [text for text in expected if text not in dom] == []


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_a_page_can_be_seen(server: str, tmp_path: Path, page: str) -> None:
    """An empty white picture of this size takes far less."""
    picture = tmp_path / "page.png"
    browse(server + page, tmp_path, f"--screenshot={picture}")
    assert picture.stat().st_size > 50_000
