"""Makes the pictures of the documentation from a scripted run: `make screenshots`."""

import tempfile
from pathlib import Path

from tests.browser.site import browser, serving, visiting
from tests.crash.server import ROOT, Server

FOLDER = ROOT / "docs" / "images"
SIZE = {"width": 1280, "height": 860}


def main() -> None:
    """Fill a queue, let some of it be done, and take the pictures."""
    FOLDER.mkdir(exist_ok=True)
    settings = {
        "upstream": "simulated",
        "interval": 0.5,
        "simulated_latency": 0.3,
        "simulated_success_rate_ids": 0.93,
        "simulated_seed": 4,
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), **settings) as server,
        browser() as chromium,
        visiting(chromium, server, viewport=SIZE, color_scheme="light") as visit,
    ):
        long = _submit(server, 2_000, "LOW")
        visit.page.wait_for_timeout(14_000)
        for items, priority in ((40, "LOW"), (60, "MEDIUM"), (25, "MEDIUM"), (18, "HIGH")):
            _submit(server, items, priority)
        visit.go().page.wait_for_timeout(2_000)
        visit.page.screenshot(path=FOLDER / "dashboard-now.png")
        visit.go(f"/ingestions/{long}").page.screenshot(path=FOLDER / "dashboard-ingestion.png")


def _submit(server: Server, items: int, priority: str) -> str:
    body = {"ids": list(range(1, items + 1)), "priority": priority}
    return str(server.request("POST", "/ingest", body).json()["ingestion_id"])


if __name__ == "__main__":
    main()
