"""What a monitoring system collects: every number is the service's own, and documented."""

import re
import subprocess
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from ingest_service.domain.model import Outcome
from ingest_service.settings import Settings
from tests.restarts import restarting
from tests.support import Api, serving
from tests.web.support import half

DOCUMENTED = Path(__file__).parents[2] / "docs" / "metrics.md"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Scraped:
    """What one scrape has found."""

    def __init__(self, client: FlaskClient) -> None:
        self.text = client.get("/metrics").text
        self.families = {family.name: family for family in parse_text(self.text)}

    def value(self, name: str, **labels: str) -> float:
        """Return one sample."""
        (found,) = [
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if (sample.name, sample.labels) == (name, labels)
        ]
        return float(found)


def test_it_counts_what_happens(still: Api) -> None:
    still.upstream.reply = half
    still.ingest(range(1, 8), "HIGH")
    still.ingest([1], "LOW")
    still.advance(8)
    now = Scraped(still.client)

    assert now.value("ingest_accepted_items_total", priority="HIGH") == 7
    assert now.value("ingest_started_batches_total", priority="HIGH") == 2
    assert now.value("ingest_settled_items_total", priority="HIGH", outcome="failed") == 2
    settled = {"priority": "HIGH", "outcome": "partially_failed"}
    assert now.value("ingest_settled_batches_total", **settled) == 2
    assert now.value("ingest_upstream_errors_total", kind="other") == 2
    assert now.value("ingest_queued_items", priority="HIGH") == 1
    assert now.value("ingest_queued_batches", priority="LOW") == 1
    assert now.value("ingest_oldest_queued_age_seconds", priority="LOW") == 8
    assert now.value("ingest_oldest_queued_age_seconds", priority="MEDIUM") == 0
    assert now.value("ingest_unfinished_ingestions") == 2
    assert now.value("ingest_interval_seconds") == 5
    assert now.value("ingest_in_flight_batches") == 0
    assert now.value("ingest_start_gap_seconds_count") == 1
    assert now.value("ingest_start_gap_seconds_sum") == 5
    assert now.value("ingest_wait_seconds_bucket", priority="HIGH", le="0.5") == 1
    assert now.value("ingest_wait_seconds_bucket", priority="HIGH", le="+Inf") == 2
    assert now.value("ingest_upstream_batch_seconds_sum") == 2


def test_it_tells_why_nothing_is_started(still: Api) -> None:
    still.client.post("/queue/pause", json={"reason": "lunch"})
    assert Scraped(still.client).value("ingest_paused") == 1
    asked = Outcome(False, status_code=429, transient=True, retry_after=30.0)
    still.upstream.reply = lambda _: [asked]
    still.client.post("/queue/resume")
    still.ingest([1], "HIGH")
    still.advance(5)
    now = Scraped(still.client)

    assert now.value("ingest_paused") == 0
    assert now.value("ingest_held_until_timestamp_seconds") == pytest.approx(
        still.began + 31.45, abs=0.01
    )
    assert now.value("ingest_retried_items_total", reason="rate_limited") == 1


@pytest.mark.embedded  # that counts those that nobody used
def test_slots_are_used_or_idle_or_held(still: Api) -> None:
    """Each of them once, whatever the pace is."""
    still.advance(50)
    still.ingest(range(1, 7), "HIGH")
    still.advance(50)
    still.client.post("/queue/pause", json={"reason": "lunch"})
    still.advance(50)
    now = Scraped(still.client)

    assert {
        use: round(now.value("ingest_slots_total", use=use)) for use in ("used", "idle", "held")
    } == {
        "used": 2,
        "idle": 18,
        "held": 10,
    }


@pytest.mark.embedded  # that remembers what it has foretold
def test_an_estimate_is_held_against_what_came_of_it(still: Api) -> None:
    """What is overtaken ends later than was foretold, and all else when it was."""
    still.ingest([1, 2, 3, 4], "LOW")
    still.advance(1)
    still.ingest([1, 2, 3], "HIGH")
    still.advance(30)
    now = Scraped(still.client)
    assert now.value("ingest_finish_error_seconds_sum", direction="late") == pytest.approx(
        5, abs=0.1
    )
    ends = [
        now.value("ingest_finish_error_seconds_count", direction=direction)
        for direction in ("late", "early")
    ]
    assert sum(ends) == 2


def test_what_is_cancelled_says_nothing_of_estimates(still: Api) -> None:
    name = still.ingest([1, 2, 3, 4], "LOW")
    still.client.post(f"/ingestions/{name}/cancel")
    now = Scraped(still.client)
    assert now.value("ingest_finish_error_seconds_count", direction="late") == 0


def test_answers_are_counted_by_route_method_and_code(still: Api) -> None:
    """Paths that lead nowhere are one, whatever they are."""
    for path in ("/status/1", "/status/2", "/nowhere", "/else/where"):
        still.client.get(path)
    still.client.open("/health", method="BREW")
    now = Scraped(still.client)

    route = "/status/<ingestion:ingestion_id>"
    assert now.value("ingest_http_requests_total", route=route, method="GET", code="404") == 2
    assert now.value("ingest_http_requests_total", route="none", method="GET", code="404") == 2
    assert now.value("ingest_http_requests_total", route="none", method="none", code="405") == 1
    assert now.value("ingest_http_request_seconds_count", route=route, method="GET") == 2


def test_a_replay_is_counted(still: Api) -> None:
    for _ in range(3):
        headers = {"Idempotency-Key": "again"}
        still.client.post("/ingest", json={"ids": [1], "priority": "LOW"}, headers=headers)
    assert Scraped(still.client).value("ingest_idempotent_replays_total") == 2


def test_counters_go_on_after_a_restart_and_files_have_a_size(tmp_path: Path) -> None:
    with restarting(tmp_path / "journal.sqlite3") as restarts:
        restarts.api.ingest([1, 2, 3], "HIGH")
        restarts.api.advance(2)
        before = Scraped(restarts.api.client)
        restarts.crash()
        after = Scraped(restarts.api.client)

    for name in ("ingest_settled_items_total", "ingest_accepted_items_total"):
        assert [s.value for s in before.families[name.removesuffix("_total")].samples] == [
            s.value for s in after.families[name.removesuffix("_total")].samples
        ]
    assert after.value("ingest_settled_items_total", priority="HIGH", outcome="succeeded") == 3
    assert before.value("ingest_journal_commit_records_count") >= 3
    assert before.value("ingest_journal_file_bytes", file="wal") > 0


def test_both_formats_say_the_same(still: Api) -> None:
    """Each is read by the parser of its kind."""
    still.ingest([1, 2, 3], "HIGH")
    still.advance(2)
    text = {family.name: family for family in parse_text(still.client.get("/metrics").text)}
    answer = still.client.get("/metrics", headers={"Accept": OPENMETRICS})
    assert answer.content_type.startswith("application/openmetrics-text")
    exact = {family.name: family for family in parse_openmetrics(answer.text)}  # type: ignore[no-untyped-call]
    assert text.keys() == exact.keys()
    assert {name: family.type for name, family in exact.items()} == {
        name: family.type for name, family in text.items()
    }


@pytest.mark.parametrize(
    "accept", ["", "*/*", "application/openmetrics-text; version=oh;q=x", "\x7f"]
)
def test_no_accept_header_breaks_it(client: FlaskClient, accept: str) -> None:
    assert client.get("/metrics", headers={"Accept": accept}).status_code == 200


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("APPLICATION/OPENMETRICS-TEXT", OPENMETRICS),
        (
            "text/plain;q=0.4, application/openmetrics-text ; version=9;q=0.5, */*;q=0.9",
            OPENMETRICS,
        ),
        ("application/openmetrics-text, text/plain", OPENMETRICS),
        ("application/openmetrics-text;q=0.1, text/plain", "text/plain"),
        ("application/openmetrics-text;q=0", "text/plain"),
        ("application/openmetrics-textual", "text/plain"),
        ("application/json, */*", "text/plain"),
    ],
)
def test_who_would_rather_have_openmetrics_gets_it(
    client: FlaskClient, accept: str, expected: str
) -> None:
    answer = client.get("/metrics", headers={"Accept": accept})
    assert answer.content_type.startswith(expected)


def test_every_family_is_documented_with_its_labels_and_nothing_else_is(still: Api) -> None:
    still.client.get("/health")
    told = {
        f"{name}_total" if family.type == "counter" else name: family
        for name, family in Scraped(still.client).families.items()
    }
    rows = re.findall(r"^\| `(ingest_\w+)` \| (\w+) \|([^|]*)\|", DOCUMENTED.read_text(), re.M)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert {name: family.type for name, family in told.items()} == {
        name: kind for name, (kind, _) in documented.items()
    }
    for name, family in told.items():
        labels: set[str] = {label for sample in family.samples for label in sample.labels}
        assert labels - {"le"} <= documented[name][1], name
        if family.samples:
            assert labels - {"le"} == documented[name][1], name


@pytest.mark.skipif(which("promtool") is None, reason="it needs promtool")
def test_promtool_finds_nothing_wrong_with_it(still: Api) -> None:
    still.ingest([1, 2, 3], "HIGH")
    still.advance(2)
    checked: Any = subprocess.run(
        ["promtool", "check", "metrics"],  # noqa: S607 - wherever it is installed
        input=still.client.get("/metrics").data,
        capture_output=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, b"")


@pytest.mark.parametrize("interval", [0, 5e-324])
def test_it_is_there_without_a_limit_as_well(interval: float) -> None:
    """Slots that nobody could tell apart are no limit."""
    with serving(Settings(interval=interval), threaded=False) as api:
        api.advance(60)
        assert Scraped(api.client).value("ingest_slots_total", use="idle") == 0
