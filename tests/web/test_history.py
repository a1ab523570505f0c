"""Looking back over HTTP: every number is one that happened, over restarts too."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from ingest_service.domain.model import Outcome
from ingest_service.settings import Settings
from tests.restarts import restarting
from tests.support import Api, serving
from tests.web.support import clock_time, get, half, refused

BUSY = Outcome(succeeded=False, status_code=503, error="busy", transient=True)
NOTHING = {"batches": 0, "items": 0}


@contextmanager
def _in_memory(_: Path) -> Iterator[Api]:
    with serving(Settings(), threaded=False, workers=3) as api:
        yield api


@contextmanager
def _on_disk(folder: Path) -> Iterator[Api]:
    with restarting(folder / "journal.sqlite3", Settings()) as restarts:
        yield restarts.api


@pytest.fixture(params=[_in_memory, pytest.param(_on_disk, marks=pytest.mark.embedded)])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Api]:
    """Give a service without and with a file."""
    with request.param(tmp_path) as api:
        yield api


def history(api: Api, **query: Any) -> dict[str, Any]:
    """Return what is told of a period."""
    return get(api.client, "/queue/history", **query)


def total(told: dict[str, Any], event: str, name: str) -> dict[str, int]:
    """Add up the steps."""
    return {
        key: sum(step[event][name][key] for step in told["steps"])
        for key in told["steps"][0][event][name]
    }


def test_the_last_hour_is_told_in_minutes(either: Api) -> None:
    """The minute that is not over is the last one."""
    either.advance(90)
    told = history(either)

    assert (told["from"], told["to"]) == (clock_time(-58 * 60), clock_time(90))
    assert told["step_seconds"] == 60
    assert [step["at"] for step in told["steps"]] == [
        clock_time(minute * 60) for minute in range(-58, 2)
    ]


def test_what_is_accepted_started_and_settled_is_counted_by_class(either: Api) -> None:
    either.upstream.reply = half
    either.ingest(range(1, 8), "HIGH")
    either.ingest([1, 2], "LOW")
    either.advance(60)
    told = history(either)

    assert total(told, "accepted", "HIGH") == {"batches": 3, "items": 7}
    assert total(told, "accepted", "LOW") == {"batches": 1, "items": 2}
    assert total(told, "started", "HIGH") == {"batches": 3, "items": 7}
    assert total(told, "started", "MEDIUM") == NOTHING
    settled = told["steps"][-1]["settled"]["HIGH"]
    assert settled["items"] == {"succeeded": 5, "failed": 2, "cancelled": 0}
    assert settled["batches"] == {
        "succeeded": 1,
        "partially_failed": 2,
        "failed": 0,
        "cancelled": 0,
        "retried": 0,
    }


def test_an_attempt_that_is_repeated_is_a_start_that_was_retried(either: Api) -> None:
    """Its items have no outcome until they have one."""
    either.upstream.reply = lambda batch: [BUSY] if batch.attempt == 1 else [Outcome(True)]
    either.ingest([1], "HIGH")
    either.advance(30)
    step = history(either)["steps"][-1]

    assert step["started"]["HIGH"] == {"batches": 2, "items": 2}
    assert step["settled"]["HIGH"]["batches"]["retried"] == 1
    assert step["settled"]["HIGH"]["items"] == {"succeeded": 1, "failed": 0, "cancelled": 0}


def test_what_is_cancelled_is_counted_when_it_is_given_up(either: Api) -> None:
    """In flight it ends as it ends."""
    name = either.ingest(range(1, 11), "LOW")
    either.advance(1)
    either.client.post(f"/ingestions/{name}/cancel")
    either.advance(10)
    settled = history(either)["steps"][-1]["settled"]["LOW"]

    assert settled["items"] == {"succeeded": 3, "failed": 0, "cancelled": 7}
    assert settled["batches"]["cancelled"] == 3


def test_what_is_cancelled_before_its_next_attempt_is_due_is_a_batch_that_was_given_up(
    either: Api,
) -> None:
    """As one that stands in line already."""
    either.upstream.reply = lambda batch: [BUSY] * len(batch.items)
    name = either.ingest([1, 2, 3, 4], "LOW")
    either.advance(2)
    either.client.post(f"/ingestions/{name}/cancel")
    settled = history(either)["steps"][-1]["settled"]["LOW"]

    assert settled["items"] == {"succeeded": 0, "failed": 0, "cancelled": 4}
    assert (settled["batches"]["retried"], settled["batches"]["cancelled"]) == (1, 2)


def test_a_move_leaves_what_waited_at_the_end_of_a_minute_before_as_it_was(either: Api) -> None:
    either.client.post("/queue/pause")
    name = either.ingest([1, 2, 3], "MEDIUM")
    either.advance(90)
    either.client.patch(f"/ingestions/{name}", json={"priority": "LOW"})
    before, now = history(either)["steps"][-2:]

    assert (before["depth"]["MEDIUM"]["items"], before["depth"]["LOW"]["items"]) == (3, 0)
    assert (now["depth"]["MEDIUM"]["items"], now["depth"]["LOW"]["items"]) == (0, 3)


def test_waits_are_told_by_class_as_bounds(either: Api) -> None:
    """From acceptance to the first start of each batch: 0.45, 5.45, 10.45 seconds and so on."""
    either.ingest(range(1, 61), "LOW")
    either.advance(59)
    step = history(either)["steps"][-1]

    assert step["wait_seconds"] == {
        "HIGH": None,
        "MEDIUM": None,
        "LOW": {"p50": 30.0, "p95": 60.0, "max": 60.0},
    }
    assert step["upstream_seconds"] == {"p50": 1.0, "p95": 1.0}


def test_what_waits_at_the_end_of_a_step_is_what_nothing_has_changed_since(either: Api) -> None:
    """Also over minutes in which nothing happened; nothing is known of before the first."""
    either.client.post("/queue/pause", json={"reason": "lunch"})
    either.ingest([1, 2, 3, 4], "LOW")
    either.advance(150)
    either.ingest([1], "HIGH")
    either.advance(60)
    told = history(either)

    assert [step["depth"]["LOW"] for step in told["steps"][-5:]] == [
        None,
        *[{"batches": 2, "items": 4}] * 4,
    ]
    assert [step["depth"]["HIGH"] for step in told["steps"][-4:]] == [
        NOTHING,
        NOTHING,
        *[{"batches": 1, "items": 1}] * 2,
    ]


def test_slots_are_those_that_could_have_been_used(either: Api) -> None:
    """Not those of a pause, and as many as the interval of the time allowed."""
    either.advance(60)
    either.client.patch("/queue", json={"interval_seconds": 10})
    either.advance(60)
    either.client.post("/queue/pause", json={"reason": "lunch"})
    either.advance(60)
    either.client.post("/queue/resume")
    either.advance(30)
    told = history(either)

    assert [step["slots"] for step in told["steps"][-5:]] == [None, 12, 6, 0, 3]
    assert told["marks"] == [
        {"at": clock_time(0), "kind": "restart", "detail": "0 unfinished"},
        {"at": clock_time(60), "kind": "interval", "detail": "from 5 s to 10 s"},
        {"at": clock_time(120), "kind": "pause", "detail": "lunch"},
        {"at": clock_time(180), "kind": "resume", "detail": None},
    ]


@pytest.mark.parametrize("interval", [5e-324, 1e-300, 1e-7])
def test_an_interval_too_short_to_tell_counts_as_none(either: Api, interval: float) -> None:
    """Also long after it is over: it is on record."""
    either.client.patch("/queue", json={"interval_seconds": interval})
    either.advance(60)
    either.client.patch("/queue", json={"interval_seconds": 5})
    either.advance(60)

    assert [step["slots"] for step in history(either)["steps"][-2:]] == [None, 12]
    ages = {"from": "1970-01-01T00:00:00Z", "to": "9000-01-01T00:00:00Z"}
    assert len(history(either, **ages)["steps"]) <= 60
    assert either.client.get("/dashboard").status_code == 200


def test_the_state_before_a_period_is_known_from_the_marks_before_it(either: Api) -> None:
    either.client.post("/queue/pause", json={"reason": "lunch"})
    either.advance(600)
    either.client.post("/queue/resume")
    either.advance(60)
    told = history(either, **{"from": clock_time(480), "to": clock_time(660)})
    assert [step["slots"] for step in told["steps"]] == [0, 0, 12]
    told = history(either, **{"from": clock_time(480), "to": clock_time(540)})
    assert [step["slots"] for step in told["steps"]] == [0]


def test_a_hold_shows_and_takes_slots_away(either: Api) -> None:
    asked = Outcome(False, status_code=429, transient=True, retry_after=30.0)
    either.upstream.reply = lambda batch: [asked] if batch.attempt == 1 else [Outcome(True)]
    either.ingest([1], "HIGH")
    either.advance(59)
    told = history(either)

    assert told["marks"][-1]["kind"] == "hold"
    # From 12:00:01.45 to 12:00:31.45.
    assert told["steps"][-1]["slots"] == 5


@pytest.mark.parametrize("interval", [5, 2])
def test_everything_is_still_there_after_a_crash(tmp_path: Path, interval: float) -> None:
    """And what waits then was what waited before; another interval counts from then on."""
    with restarting(tmp_path / "journal.sqlite3") as restarts:
        restarts.api.ingest(range(1, 301), "LOW")
        restarts.api.advance(59)
        before = history(restarts.api)["steps"][-1]
        restarts.crash(down=121, interval=interval)
        restarts.api.advance(60)
        told = history(restarts.api)

    assert before["started"]["LOW"]["batches"] == 12
    (kept,) = [step for step in told["steps"] if step["at"] == clock_time(0)]
    assert kept == before | {"slots": 12}
    assert total(told, "accepted", "LOW") == {"batches": 100, "items": 300}
    assert [mark["at"] for mark in told["marks"]] == [clock_time(0), clock_time(180)]
    assert told["steps"][-1]["slots"] == 60 // interval


def test_a_change_that_could_not_be_recorded_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one is."""
    with restarting(tmp_path / "journal.sqlite3") as restarts:
        api = restarts.api
        committer = api.parts.journal._db._committer  # type: ignore[attr-defined]
        with monkeypatch.context() as broken:
            broken.setattr(committer, "_last_commit", lambda: 0)
            broken.setattr(committer, "_number_commit", lambda _: 1 / 0)
            assert (
                api.client.post("/ingest", json={"ids": [1], "priority": "LOW"}).status_code == 503
            )
        api.ingest([1, 2], "LOW")
        restarts.pass_by(1)
        assert total(history(api), "accepted", "LOW") == {"batches": 1, "items": 2}
        assert api.parts.journal.totals()["accepted.LOW.items"] == 2


def test_history_goes_with_the_retention_but_totals_stay(tmp_path: Path) -> None:
    settings = Settings(retention=3_600)
    with restarting(tmp_path / "journal.sqlite3", settings) as restarts:
        restarts.api.ingest([1, 2, 3], "HIGH")
        restarts.api.advance(10)
        totals = restarts.api.parts.journal.totals()
        restarts.pass_by(7_200)
        restarts.api.ingest([4], "HIGH")
        restarts.api.advance(10)
        restarts.crash()
        told = history(restarts.api, **{"from": clock_time(0), "step": 60})
        after = restarts.api.parts.journal.totals()

    assert total(told, "accepted", "HIGH") == {"batches": 1, "items": 1}
    assert totals["started.HIGH.items"] == 3
    assert after["started.HIGH.items"] == 4
    assert after["wait.HIGH.0.5"] == 2


def test_a_clock_that_is_set_back_loses_nothing(tmp_path: Path) -> None:
    """What happens then is counted in its minute once more."""
    with restarting(tmp_path / "journal.sqlite3") as restarts:
        restarts.api.ingest([1], "HIGH")
        restarts.pass_by(3_600)
        restarts.api.ingest([1], "HIGH")
        restarts.pass_by(-3_600)
        restarts.api.ingest([1], "HIGH")
        restarts.crash(down=3_700)
        told = history(restarts.api, **{"from": clock_time(0), "step": 60})
        assert total(told, "accepted", "HIGH") == {"batches": 3, "items": 3}
        assert told["steps"][0]["accepted"]["HIGH"]["batches"] == 2


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"step": 90}, "/step"),
        ({"step": 0}, "/step"),
        ({"step": "1m"}, "/step"),
        ({"from": "yesterday"}, "/from"),
        ({"from": clock_time(60), "to": clock_time(0)}, "/from"),
        ({"from": clock_time(3_600), "to": clock_time(3_600)}, "/from"),
        ({"from": clock_time(-86_400 * 7), "step": 60}, "/step"),
        ({"to": "9000-12-31T00:00:00Z", "from": "1970-01-01T00:00:00Z", "step": 60}, "/step"),
        ({"to": "1970-01-01T00:00:00Z"}, None),
        ({"to": "9000-12-31T00:00:00Z", "from": "1970-01-01T00:00:00Z"}, None),
    ],
)
def test_a_period_that_cannot_be_told_is_refused(
    client: FlaskClient, query: dict[str, Any], pointer: str | None
) -> None:
    """With the part of it that is to blame."""
    if pointer is None:
        get(client, "/queue/history", **query)
    else:
        assert refused(client, "/queue/history", **query) == [pointer]


def test_at_most_a_thousand_steps_are_told(client: FlaskClient) -> None:
    week = {"from": clock_time(-86_400 * 7), "to": clock_time(0)}
    assert len(get(client, "/queue/history", **week, step=660)["steps"]) == 917
    assert len(get(client, "/queue/history", **week)["steps"]) == 56
    refused(client, "/queue/history", **week, step=600)


def test_an_answer_is_as_the_document_says(either: Api) -> None:
    """It is written by hand."""
    either.upstream.reply = half
    either.ingest(range(1, 8), "HIGH")
    either.client.post("/queue/pause", json={"reason": "lunch"})
    document = either.client.get("/openapi.json").get_json()
    (content,) = document["paths"]["/queue/history"]["get"]["responses"]["200"]["content"].values()
    schema = content["schema"] | {"components": document["components"]}
    told = history(either)
    Draft202012Validator(schema).validate(told)
    assert (
        told["steps"][0].keys()
        == document["components"]["schemas"]["HistoryStep"]["properties"].keys()
    )


def test_a_minute_says_the_same_when_it_is_over(either: Api) -> None:
    """Whatever it tells."""
    either.upstream.reply = half
    either.ingest(range(1, 8), "HIGH")
    either.ingest([1, 2], "LOW")
    either.advance(60)
    minute = {"from": clock_time(0), "to": clock_time(60)}
    told = history(either, **minute)
    either.ingest([1, 2], "MEDIUM")
    either.advance(60)
    assert history(either, **minute) == told


def test_hours_say_what_their_minutes_say(either: Api) -> None:
    """Those that are over, and the one that is not."""
    for _ in range(9):
        either.ingest(range(1, 11), "LOW")
        either.advance(25 * 60)
    ask = {"from": clock_time(0), "to": clock_time(5 * 3_600)}
    hours, minutes = history(either, **ask, step=3_600), history(either, **ask, step=1_800)
    late = {"from": clock_time(60), "to": clock_time(5 * 3_600 + 60)}
    assert total(history(either, **late, step=3_600), "started", "LOW") == {
        "batches": 32,
        "items": 80,
    }

    assert len(hours["steps"]) == 5
    for at, hour in enumerate(hours["steps"]):
        first, second = minutes["steps"][2 * at : 2 * at + 2]
        for event in ("accepted", "started"):
            assert hour[event]["LOW"] == {
                key: first[event]["LOW"][key] + second[event]["LOW"][key]
                for key in ("batches", "items")
            }
        assert hour["depth"] == second["depth"]
        assert hour["slots"] == first["slots"] + second["slots"]
    assert total(hours, "accepted", "LOW") == {"batches": 36, "items": 90}
