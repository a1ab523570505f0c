"""What the pages show, without scripts."""

import json
import re

import pytest

from ingest_service.domain.model import Outcome
from ingest_service.settings import Settings
from tests.support import Api, serving
from tests.web.dashboard.support import HOSTILE, PAGES, Words, look, send, words
from tests.web.support import half


def test_an_idle_service_says_that_all_is_well_and_how_to_begin(alive: Api) -> None:
    text = look(alive, "/dashboard")
    assert "All is well" in text
    assert "Nothing waits." in text
    assert """curl -H 'Content-Type: application/json' -d '{"ids": [1, 2, 3]""" in text


def test_the_first_page_tells_what_waits_and_what_became_of_the_last_slots(alive: Api) -> None:
    alive.upstream.reply = half
    alive.ingest(range(1, 8), "HIGH")
    alive.ingest([1], "LOW")
    alive.advance(2)
    text = look(alive, "/dashboard")

    assert "2 ingestions with 3 batches wait. " in text
    assert "started 12:00:00 UTC: 1 of 3 failed." in text
    assert re.search(r"HIGH, at 12:00:05 UTC: [0-9a-f]{8}", text)
    assert "It is next; the slot opens at the pace." in text
    assert "More urgent ingestions go first." in text


@pytest.mark.parametrize(
    ("state", "expected"),
    [("paused", "The queue is paused a flood in the cellar"), ("held", "left alone for now")],
)
def test_the_first_page_tells_why_nothing_is_sent(alive: Api, state: str, expected: str) -> None:
    if state == "paused":
        send(alive, "/pause", reason="a flood in the cellar")
    else:
        alive.upstream.reply = lambda batch: (
            [Outcome(succeeded=False, transient=True, retry_after=60.0)] * len(batch.items)
        )
    alive.ingest([1])
    alive.advance(2)
    assert expected in look(alive, "/dashboard")


def test_an_ingestion_tells_where_it_is_and_what_became_of_its_items(still: Api) -> None:
    still.upstream.reply = half
    ingestion_id = still.ingest(range(1, 8))
    still.advance(2)
    text = look(still, f"/dashboard/ingestions/{ingestion_id}")

    assert ingestion_id in text
    assert "4 queued" not in text
    assert re.search("queued ?4 ?under way ?0 ?succeeded ?2 ?failed ?1", text)
    assert f"curl -f -o {ingestion_id}.csv 'http://localhost/status/" in text
    assert "Next start 12:00:05 UTC" in text
    assert re.search("2 ?✗ failed ?1 ?\u2013 ?no ?12:00:01 UTC", text)


def test_items_can_be_had_by_outcome_by_batch_and_page_by_page(still: Api) -> None:
    still.upstream.reply = half
    ingestion_id = still.ingest(range(1001, 1200))
    still.advance(5 * 70)
    address = f"/dashboard/ingestions/{ingestion_id}"

    def shown(query: str) -> list[str]:
        return re.findall(r"<bdi>(1\d\d\d)</bdi>", still.client.get(address + query).text)

    assert shown("")[:3] == ["1001", "1002", "1003"]
    assert len(shown("")) == 50
    assert shown("?items=50")[0] == "1051"
    assert shown("?outcome=failed")[:2] == ["1002", "1005"]
    assert shown("?outcome=failed&items=50")[0] == "1152"
    assert shown("?batch=2") == ["1004", "1005", "1006"]
    assert shown("?batch=67") == ["1199"]


def test_a_thousand_batches_are_seen_at_a_glance_and_the_rest_on_further_pages() -> None:
    with serving(Settings(interval=0.0), threaded=False) as api:
        ingestion_id = api.ingest(range(1, 6_001))
        address = f"/dashboard/ingestions/{ingestion_id}"
        first, last = (api.client.get(address + query).text for query in ("", "?batches=1000"))
    assert first.count('<a class="cell') == last.count('<a class="cell') == 1_000
    assert f"{address}?batches=1000&amp;items=0#heat-title" in first


def test_the_list_has_filters_that_live_in_its_address_and_goes_on(still: Api) -> None:
    finished = still.ingest([1], "HIGH")
    still.advance(3)
    for _ in range(60):
        still.ingest([1], "LOW")
    rows = re.compile(r'id="row-([0-9a-f-]{36})"')

    def shown(query: str) -> list[str]:
        return rows.findall(still.client.get(f"/dashboard/ingestions{query}").text)

    assert shown("?priority=HIGH") == [finished]
    assert shown("?outcome=succeeded&status=&priority=") == [finished]
    assert finished not in shown("?show=unfinished&rows=100")
    assert len(shown("")) == 50
    assert (
        'href="/dashboard/ingestions?rows=100#row-'
        in still.client.get("/dashboard/ingestions").text
    )
    assert len(shown("?rows=100")) == 61


def test_a_long_list_goes_on_on_a_page_that_begins_behind_it(still: Api) -> None:
    for _ in range(101):
        still.ingest([1])
    page = still.client.get("/dashboard/ingestions?rows=100").text
    (address,) = re.findall(r'href="([^"]*cursor=[^"]*)"', page)
    rest = still.client.get(address.replace("&amp;", "&")).text
    assert rest.count('id="row-') == 1


@pytest.mark.parametrize("page", PAGES)
def test_a_page_needs_nothing_inline_and_nothing_from_elsewhere(still: Api, page: str) -> None:
    ingestion_id = still.ingest(range(1, 8))
    still.advance(2)
    for path in (page, f"/dashboard/ingestions/{ingestion_id}"):
        answer = still.client.get(path)
        policy = answer.headers["Content-Security-Policy"]
        read = Words(answer.text)
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert read.inline == []
        for address in read.addresses:
            assert re.match(r"/(?!/)|#", address), address
            if address.startswith("/dashboard/static"):
                with still.client.get(address) as asset:
                    assert asset.status_code == 200


@pytest.mark.parametrize("page", PAGES)
def test_what_has_not_changed_is_not_sent_again(still: Api, page: str) -> None:
    still.ingest([1, 2, 3, 4])
    first = still.client.get(page)
    known = {"If-None-Match": first.headers["ETag"]}
    still.advance(0.2)
    same = still.client.get(page, headers=known)
    assert (same.status_code, same.headers["X-Now"]) == (304, "2026-01-01T12:00:00.200Z")
    still.advance(0.5)
    assert still.client.get(page, headers=known).status_code == 200


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_hostile_text_is_shown_literally_wherever_it_comes_from(alive: Api, text: str) -> None:
    mapping = {"id": text, "source": "s", "target": "t"}
    posted = alive.client.post("/ingest", json={"mappings": [mapping], "priority": "LOW"})
    good, bad = (
        Outcome(succeeded=True, processed_data={text: [text]}),
        Outcome(succeeded=False, error=text),
    )
    alive.upstream.reply = lambda batch: [good if batch.kind == "mappings" else bad]
    ids = alive.ingest([1])
    alive.advance(12)
    send(alive, "/pause", reason=text)
    for path in ("", f"/ingestions/{posted.get_json()['request_id']}", f"/ingestions/{ids}"):
        answer = alive.client.get(f"/dashboard{path}")
        assert Words(answer.text).inline == []
        shown = Words(answer.text).text
        assert text in shown or json.dumps(text)[1:-1] in shown


@pytest.mark.parametrize("text", ["\u202egnp.exe", "a\0b", "a\x1b[31mb", "a\u200bb"], ids=ascii)
def test_what_would_hide_or_turn_round_a_text_is_shown_by_a_sign(still: Api, text: str) -> None:
    mapping = {"id": text, "source": "s", "target": "t"}
    posted = still.client.post("/ingest", json={"mappings": [mapping], "priority": "LOW"})
    still.advance(2)
    page = still.client.get(f"/dashboard/ingestions/{posted.get_json()['request_id']}").text
    hidden = next(sign for sign in text if not sign.isprintable())
    assert f"⟨U+{ord(hidden):04X}⟩" in page
    assert hidden not in page


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ingestions/x", 404),
        ("/ingestions/%3Csvg%20onload=alert(1)%3E", 404),
        ("/nowhere", 404),
        ("/ingestions?cursor=x", 400),
        ("/ingestions?rows=0", 400),
        ("/ingestions?priority=high", 400),
        ("?range=2h", 400),
        ("/find?id=", 404),
        ("/pause", 404),
    ],
)
def test_what_is_wrong_is_said_on_a_page(still: Api, path: str, status: int) -> None:
    answer = still.client.get(f"/dashboard{path}")
    assert (answer.status_code, answer.mimetype) == (status, "text/html")
    assert str(status) in words(answer)
    assert Words(answer.text).inline == []


def test_an_id_that_was_typed_leads_to_its_ingestion(still: Api) -> None:
    answer = still.client.get("/dashboard/find", query_string={"id": " ABC "})
    assert (answer.status_code, answer.location) == (303, "/dashboard/ingestions/ABC")


@pytest.mark.parametrize(("form", "first"), [("csv", "id,status"), ("ndjson", '{"id":1')])
def test_results_can_be_downloaded(still: Api, form: str, first: str) -> None:
    ingestion_id = still.ingest([1])
    still.advance(3)
    answer = still.client.get(f"/dashboard/ingestions/{ingestion_id}/results.{form}")
    assert answer.text.startswith(first)
    assert "attachment" in answer.headers["Content-Disposition"]
