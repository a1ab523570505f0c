"""A real browser in front of the real server."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from playwright.sync_api import Browser, Page, sync_playwright

from tests.crash.server import Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

#: Says on the console whatever the policy of a page forbids.
_REPORT = """document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`forbidden: ${event.violatedDirective} ${event.blockedURI}`));"""
#: A server that is away, and pages that are not there, are told by the browser itself.
_EXPECTED = "Failed to load resource"


@contextmanager
def browser() -> Iterator[Browser]:
    """Start Debian's chromium."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield started
        finally:
            started.close()


@contextmanager
def serving(folder: Path, **settings: object) -> Iterator[Server]:
    """Run a server with an upstream that these checks know."""
    settings = {"upstream": "tests.browser.upstream:send", "log_level": "WARNING"} | settings
    server = Server(folder / "journal.sqlite3", folder / "log")
    server.environment |= {f"INGEST_{name.upper()}": str(value) for name, value in settings.items()}
    server.start()
    try:
        yield server
    finally:
        server.kill()


@dataclass
class Visit:
    """A page, and everything in it that went wrong."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)

    def go(self, path: str = "") -> Self:
        """Open a page of the dashboard and wait until its scripts have run."""
        self.page.goto(f"{self.address}/dashboard{path}")
        self.page.wait_for_load_state("networkidle")
        return self

    def text(self, selector: str = "body") -> str:
        """Return what somebody sees there, in one line."""
        return " ".join(self.page.inner_text(selector).split())


@contextmanager
def visiting(browser: Browser, server: Server, **context: Any) -> Iterator[Visit]:
    """Give a page; at the end nothing must have been complained about."""
    with browser.new_context(
        locale="en-GB", timezone_id="Asia/Kolkata", accept_downloads=True, **context
    ) as made:
        page = made.new_page()
        page.set_default_timeout(15_000)
        page.add_init_script(_REPORT)
        visit = Visit(page, f"http://127.0.0.1:{server.port}")
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        page.on("console", lambda message: _note(visit, message.type, message.text))
        page.on("dialog", lambda dialog: visit.complaints.append(f"dialog: {dialog.message}"))
        yield visit
        assert visit.complaints == []


def _note(visit: Visit, kind: str, text: str) -> None:
    if kind in ("error", "warning") and _EXPECTED not in text:
        visit.complaints.append(text)
