"""Ten thousand ingestions wait, one has a million ids: the pages stay usable."""

import http.client
import json
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.site import CHROMIUM, Visit, serving, visiting
from tests.crash.server import Server

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

WAITING = 10_000
#: Milliseconds to the first paint, and of the main thread for an update.
FIRST_PAINT = 1_000
UPDATE = 100

#: What keeps the main thread busy for long; the browser tells from 50 ms on.
_WATCH = """window.long = []; new PerformanceObserver((list) => {
  for (const task of list.getEntries()) window.long.push(task.duration);
}).observe({type: "longtask", buffered: true});"""


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """Give a server with all of that, and the id of the large one."""
    with serving(tmp_path_factory.mktemp("crowd"), journal="memory", interval=0.5) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

        def submit(ids: list[int], priority: str) -> str:
            body = json.dumps({"ids": ids, "priority": priority})
            connection.request("POST", "/ingest", body, {"Content-Type": "application/json"})
            return str(json.load(connection.getresponse())["ingestion_id"])

        large = submit(list(range(1, 1_000_001)), "HIGH")
        for number in range(WAITING):
            submit([1, 2, 3, 4], ("HIGH", "MEDIUM", "LOW")[number % 3])
        connection.close()
        yield server, large


def first_paint(visit: Visit) -> float:
    """Return how long the first paint took, in milliseconds."""
    paints = "performance.getEntriesByName('first-contentful-paint').map((each) => each.startTime)"
    (at,) = visit.page.evaluate(paints)
    return float(at)


@pytest.mark.parametrize("view", ["", "/ingestions", "/ingestions?rows=100", "large"])
def test_a_page_is_painted_at_once_and_updated_without_a_hitch(
    browser: Browser, crowded: tuple[Server, str], view: str
) -> None:
    server, large = crowded
    with visiting(browser, server) as visit:
        visit.go("/submit")
        visit.go(f"/ingestions/{large}" if view == "large" else view)
        painted = first_paint(visit)
        visit.page.evaluate(_WATCH)
        visit.page.wait_for_timeout(500)
        visit.page.evaluate("window.long.length = 0")
        visit.page.wait_for_timeout(5_000)
        longest = max(visit.page.evaluate("window.long"), default=0)
    # For `-s`: the figures.
    sys.stdout.write(f"{view or 'now'}: painted {painted:.0f} ms, longest task {longest:.0f} ms\n")
    assert painted < FIRST_PAINT
    assert longest < UPDATE
