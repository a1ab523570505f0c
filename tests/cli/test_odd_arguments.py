"""What nobody means: numbers without an end, texts that are none, no standard input."""

import math
import os
import sys
import time
from collections.abc import Iterator

import click
import pytest

from ingest_service.cli import _LOCAL, _REMOTE, cli
from ingest_service.cli.output import clock_time, duration
from ingest_service.cli.remote import screens
from ingest_service.client import PRIORITIES, IngestClient, Queue
from ingest_service.client.fields import Fields
from tests.cli.support import Run
from tests.cli.test_help import command

NO_TEXT = os.fsdecode(b"\xff")


@pytest.mark.parametrize(
    "arguments",
    [
        ["top", "--every", "inf"],
        ["top", "--every", "1e300"],
        ["top", "--every", "nan"],
        ["top", "--times", "1", "--every", "nan"],
        ["watch", "x", "--timeout", "nan"],
        ["watch", "x", "--timeout", "inf"],
        ["submit", "1", "--timeout", "nan"],
        ["submit", "1", "--timeout", "-1"],
        ["interval", "nan"],
        ["interval", "nan", "--yes"],
        ["pause", "--yes", "--reason", NO_TEXT],
        ["ls", "--status", NO_TEXT],
    ],
    ids=lambda arguments: " ".join(map(ascii, arguments)),
)
def test_what_nobody_means_is_a_usage_error(run: Run, arguments: list[str]) -> None:
    ran = run(*arguments)
    assert (ran.exit_code, type(ran.exception)) == (2, SystemExit)
    assert "Error: " in ran.stderr


@pytest.mark.parametrize("arguments", ["submit 1 -p urgent", "move x urgent", "ls -p urgent"])
def test_words_are_told_as_they_are_written_everywhere(run: Run, arguments: str) -> None:
    ran = run(*arguments.split())
    assert ran.exit_code == 2
    assert ran.stderr.endswith(": 'urgent' is not one of 'HIGH', 'MEDIUM', 'LOW'.\n")


@pytest.mark.parametrize("name", [*_REMOTE, *_LOCAL])
def test_every_option_that_is_a_number_refuses_what_is_none(name: str) -> None:
    context = click.Context(command(name))
    for parameter in command(name).params:
        if isinstance(parameter.type, click.types.FloatParamType):
            for value in ("nan", "inf", "-inf"):
                with pytest.raises(click.BadParameter):
                    parameter.process_value(context, value)


@pytest.fixture(params=["EST+12", "EST-12"])
def _far_from_utc(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_far_from_utc")
@pytest.mark.parametrize("bound", ["--from=0001-01-01", "--to=9999-12-31T23:59:59"])
def test_a_day_that_no_calendar_has_is_refused(run: Run, bound: str) -> None:
    ran = run("proof", bound)
    assert (ran.exit_code, type(ran.exception)) == (2, SystemExit)
    assert "Error: " in ran.stderr


def test_nobody_is_asked_where_there_is_no_standard_input(
    client: IngestClient, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    client.pause("tests")
    waits = client.submit(ids=[1], priority="LOW")
    monkeypatch.setenv("INGEST_URL", url)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(click.UsageError, match="nobody to ask"):
        cli.main(["cancel", waits.ingestion_id], standalone_mode=False)
    assert waits.status().counts.queued == 1


def test_numbers_that_no_service_has_are_shown() -> None:
    assert [duration(each) for each in (math.inf, 1e300, -math.inf, -1.0)] == [
        "for ever", "for ever", "0 s", "0 s",
    ]  # fmt: skip
    depth = {"batches": 3, "items": 2**63, "ingestions": 3, "oldest_at": None}
    report = Queue.parse(
        Fields(
            {
                "state": "running",
                "interval_seconds": 1e308,
                "policy": "strict",
                "depth": dict.fromkeys(PRIORITIES, depth),
                "in_flight": [],
                "next": [],
                "empty_at": "9998-12-31T12:00:00Z",
            }
        )
    )
    console = screens.console()
    with console.capture() as shown:
        console.print(screens.queue(report))
    told = " ".join(shown.get().split())
    assert "one batch every 1e+308 s" in told
    assert f"done about {clock_time(report.empty_at)}" in told
