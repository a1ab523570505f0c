"""The pages for people, as people have them: in every width, in the dark, with the server away."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from tests.browser.site import CHROMIUM, serving, visiting
from tests.browser.upstream import HOSTILE, WEAK
from tests.crash.server import Server
from tests.crash.waiting import eventually
from tests.keys.support import secret, table, write

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

WIDTHS = (320, 800, 1440)
#: Colours that cannot be told apart, names that are missing: what shuts somebody out.
GRAVE = ("serious", "critical")


def submit(server: Server, items: Any, priority: str, kind: str = "ids") -> str:
    """Submit through the API; return the id of the ingestion."""
    answer = server.request("POST", "/ingest", {kind: items, "priority": priority}).json()
    return str(answer.get("ingestion_id") or answer["request_id"])


def mappings(source: str) -> list[dict[str, str]]:
    """Return a mapping for each hostile text."""
    return [{"id": text, "source": source, "target": text} for text in HOSTILE]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a quick server."""
    folder = tmp_path_factory.mktemp("dashboard")
    with serving(folder, interval=0.2, settle=0.0, batch_size_mappings=10) as started:
        yield started


@pytest.fixture(scope="module")
def views(server: Server) -> dict[str, str]:
    """Give the address of every view of a server that has done something and has more to do."""
    good = submit(server, mappings("good"), "HIGH", "mappings")
    bad = submit(server, mappings("fail"), "HIGH", "mappings")
    long = submit(server, list(range(1, 9_000)), "LOW")

    def status() -> object:
        return server.request("GET", f"/status/{bad}").json()["status"]

    eventually(lambda: status() == "failed")
    return {
        "now": "",
        "list": "/ingestions",
        "nothing": "/ingestions?priority=MEDIUM&outcome=cancelled",
        "good": f"/ingestions/{good}",
        "bad": f"/ingestions/{bad}?outcome=failed",
        "long": f"/ingestions/{long}",
        "submit": "/submit",
        "problem": "/ingestions/nobody",
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_view_fits_and_shuts_nobody_out(
    browser: Browser,
    server: Server,
    views: dict[str, str],
    width: int,
    scheme: Literal["light", "dark"],
) -> None:
    size = {"width": width, "height": 900}
    # The checker brings styles of its own, which the policy would forbid.
    with visiting(
        browser,
        server,
        viewport=size,
        color_scheme=scheme,
        reduced_motion="reduce",
        bypass_csp=True,
    ) as visit:
        for name, path in views.items():
            visit.go(path)
            wide = visit.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, name
            found = Axe().run(visit.page).response["violations"]
            grave = [
                (each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in GRAVE
            ]
            assert grave == [], name


def test_a_row_shows_all_of_it_in_every_width(
    browser: Browser, server: Server, views: dict[str, str]
) -> None:
    """What a row cuts off makes no page wider, so the test above does not see it."""
    cut = "all => all.filter(row => row.scrollWidth > row.clientWidth + 1).length"
    with visiting(browser, server) as visit:
        for name in ("now", "list"):
            visit.go(views[name])
            assert visit.page.locator(".row").count()
            for width in range(320, 1_500, 60):
                visit.page.set_viewport_size({"width": width, "height": 900})
                assert visit.page.locator(".row").evaluate_all(cut) == 0, (name, width)


@pytest.fixture
def paused(server: Server) -> Iterator[None]:
    """Let nothing be sent for a nasty reason."""
    server.request("POST", "/queue/pause", {"reason": HOSTILE[0] + 900 * "W"})
    yield
    server.request("POST", "/queue/resume")


@pytest.mark.usefixtures("paused")
@pytest.mark.parametrize("width", [320, 2560])
def test_hostile_texts_are_shown_literally_and_break_no_layout(
    browser: Browser, server: Server, views: dict[str, str], width: int
) -> None:
    with visiting(browser, server, viewport={"width": width, "height": 900}) as visit:
        for name in ("good", "bad", "now", "list"):
            visit.go(views[name])
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
            assert visit.page.locator("svg[onload]").count() == 0
            if name in ("good", "bad"):
                for text in HOSTILE[:5]:
                    assert text in visit.page.text_content("table")  # type: ignore[operator]
                assert "⟨U+202E⟩gnp.exe" in visit.text("table")
        visit.go()
        assert HOSTILE[0] in visit.text("#verdict")


def test_a_whole_story(browser: Browser, tmp_path: Path) -> None:
    """Submitted, overtaken, moved, paused, resumed, failed, tried again, downloaded."""
    with (
        serving(tmp_path, interval=1.0, settle=0.2) as server,
        visiting(browser, server) as visit,
    ):
        page = visit.go("/submit").page
        page.fill("#pasted", f"{WEAK} " + " ".join(map(str, range(100, 117))))
        page.check("input[value=LOW]")
        page.wait_for_selector("#send:has-text('Send 18 ids')")
        assert "18 ids in 6 batches of up to 3" in visit.text("#plan")
        page.click("#send")
        page.wait_for_url("**/ingestions/*")
        slow = page.url.rpartition("/")[2]

        page.click("#pause summary")
        page.fill("input[name=reason]", "a flood in the cellar")
        page.click("text=Pause the queue")
        expect(page.locator("#state")).to_have_text("Paused")
        expect(page.locator("#verdict")).to_contain_text("a flood in the cellar")
        fast = submit(server, [1, 2, 3], "HIGH")
        expect(page.locator("#verdict")).to_contain_text("Nobody knows when")

        visit.go()
        page.click("button:has-text('Resume')")
        expect(page.locator(f'#strip .past[href$="{fast}"]')).to_be_visible()
        assert page.locator(f'#strip .slot:not(.past)[href$="{slow}"]').count() > 0
        expect(page.locator("h1")).to_have_text("All is well")

        visit.go("/ingestions")
        other = submit(server, list(range(200, 260)), "MEDIUM")
        page.check(f'input[value="{other}"]')
        page.select_option("#bulk select", "LOW")
        page.click("text=Move…")
        expect(page.locator("h1")).to_have_text("Move this ingestion to LOW?")
        page.click("text=Move to LOW")
        page.wait_for_url(f"**/ingestions/{other}")
        expect(page.locator("#verdict")).to_contain_text("LOW")
        page.click("text=Cancel…")
        page.click(".confirm .main")
        expect(page.locator("#verdict")).to_contain_text("Cancelled: ")

        visit.go(f"/ingestions/{slow}")
        expect(page.locator("#verdict")).to_contain_text("1 of 18 failed.", timeout=20_000)
        expect(page.locator("a.cell.mixed")).to_have_count(1)
        page.click("a:has-text('failed 1')")
        assert "It has no such thing." in visit.text("table")
        page.click("text=Retry 1 failed…")
        page.click(".confirm .main")
        expect(page.locator("#verdict")).to_contain_text("Succeeded.")
        with page.expect_download() as loading:
            page.click("text=CSV")
        rows = loading.value.path().read_text().splitlines()
        assert len(rows) == 19
        assert rows[1].startswith(f"{WEAK},success")


def test_a_server_that_is_away_is_noticed_and_so_is_its_return(
    browser: Browser, tmp_path: Path
) -> None:
    with (
        serving(tmp_path, interval=0.2) as server,
        visiting(browser, server) as visit,
    ):
        visit.go()
        server.kill()
        away = visit.page.locator("#away")
        expect(away).to_contain_text("The server is away: it cannot be reached.")
        server.start()
        expect(away).to_be_hidden()
        submit(server, [1], "HIGH")
        expect(visit.page.locator("#strip .past")).to_have_count(1)


def test_a_page_that_nobody_looks_at_asks_for_nothing(browser: Browser, server: Server) -> None:
    with visiting(browser, server) as visit:
        visit.go()
        asked: list[str] = []
        visit.page.on("request", lambda request: asked.append(request.url))
        visit.page.evaluate(
            """Object.defineProperty(document, "hidden", {value: true, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));"""
        )
        visit.page.wait_for_timeout(300)
        asked.clear()
        visit.page.wait_for_timeout(2_500)
        assert asked == []
        visit.page.evaluate(
            """delete document.hidden; document.dispatchEvent(new Event("visibilitychange"));"""
        )
        visit.page.wait_for_timeout(300)
        assert len(asked) == 1


def test_a_clock_that_is_an_hour_off_changes_no_age_and_no_countdown(
    browser: Browser, server: Server
) -> None:
    submit(server, list(range(1, 300)), "MEDIUM")
    with visiting(browser, server) as visit:
        late = "const real = Date.now; Date.now = () => real() + 3_600_000;"
        visit.page.add_init_script(late)
        visit.go("/ingestions")
        visit.page.wait_for_timeout(700)
        assert re.search(r"Next slot (now|in 1 s)", visit.text("#bar"))
        ages = visit.page.locator('time[data-form="age"]').all_inner_texts()
        assert ages
        assert all(re.fullmatch(r"just now|\d+ s ago|[1-5] min( \d+ s)? ago", age) for age in ages)


def test_times_are_local_and_utc_is_told_on_hover(
    browser: Browser, server: Server, views: dict[str, str]
) -> None:
    with visiting(browser, server) as visit:
        visit.go(views["good"])
        time = visit.page.locator(".timeline time").first
        utc = time.get_attribute("datetime") or ""
        local = visit.page.evaluate(
            "(text) => new Date(text).toLocaleTimeString('en-GB', {timeZone: 'Asia/Kolkata'})", utc
        )
        assert time.inner_text() == local
        assert time.get_attribute("title") == utc.replace("T", " ").replace("Z", " UTC")


def test_everything_can_be_reached_by_the_keyboard(browser: Browser, server: Server) -> None:
    submit(server, list(range(1, 300)), "LOW")
    with visiting(browser, server) as visit:
        page = visit.go().page
        page.keyboard.press("Tab")
        assert visit.text(":focus") == "Skip to the content"
        seen: list[str] = []
        for _ in range(14):
            page.keyboard.press("Tab")
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", page.evaluate("document.activeElement.outerHTML")
            seen.append(
                page.evaluate(
                    "document.activeElement.className || document.activeElement.name || ''"
                )
            )
        # The strip is one stop, of which there are 60 and more.
        assert len([name for name in seen if name.startswith("slot")]) == 1
        page.locator("#strip a").first.focus()
        page.keyboard.press("ArrowRight")
        assert (
            page.evaluate(
                "[...document.querySelectorAll('#strip a')].indexOf(document.activeElement)"
            )
            == 1
        )
        page.focus("#pause summary")
        page.keyboard.press("Enter")
        assert page.locator("#pause form").is_visible()
        page.keyboard.press("Escape")
        assert not page.locator("#pause form").is_visible()


def test_without_scripts_everything_can_be_read_and_done(browser: Browser, server: Server) -> None:
    with visiting(browser, server, java_script_enabled=False) as visit:
        page = visit.go("/submit").page
        page.fill("textarea", "41 42 43")
        page.click("text=Show the plan")
        page.click("text=Send 3 ids")
        page.wait_for_url("**/ingestions/*")
        page.click("#pause summary")
        page.click("text=Pause the queue")
        assert "Paused" in visit.text("#bar")
        page.click("button:has-text('Resume')")
        assert re.search(r"\d\d:\d\d:\d\d UTC", visit.text(".timeline"))
        page.click("text=Cancel…")
        assert "?" in visit.text("h1")


def test_what_is_half_done_survives_an_update(browser: Browser, server: Server) -> None:
    """What is chosen, typed and opened, while everything round it changes."""
    with visiting(browser, server) as visit:
        page = visit.go("/ingestions").page
        page.locator('#chosen input[type="checkbox"]').first.check()
        page.click("#pause summary")
        page.fill("input[name=reason]", "half a rea")
        first = page.locator(".row").first.get_attribute("id")
        submit(server, [7], "LOW")
        expect(page.locator(".row").first).not_to_have_attribute("id", first or "")
        assert page.input_value("input[name=reason]") == "half a rea"
        assert page.locator(f"#{first} input").is_checked()
        assert page.evaluate("document.activeElement.name") == "reason"


def test_a_key_is_asked_for_where_there_are_keys(browser: Browser, tmp_path: Path) -> None:
    keys = write(tmp_path / "keys.toml", table("ops", secret(), scopes='["read", "operate"]'))
    with (
        serving(tmp_path, interval=0.2, api_keys_file=keys) as server,
        visiting(browser, server) as visit,
    ):
        page = visit.go("/ingestions").page
        page.fill("input[name=key]", "ik_wrong")
        page.click("button.main")
        assert "not a key that is in force" in visit.text()
        page.fill("input[name=key]", secret())
        page.click("button.main")
        page.wait_for_url("**/dashboard/ingestions")
        assert "ops" in visit.text("nav")
        assert page.evaluate("document.cookie") == ""
        write(tmp_path / "keys.toml", table("other", secret(2)))
        expect(page.locator("h1")).to_have_text("Sign in")
