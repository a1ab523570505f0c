"""What nobody means: numbers without an end, texts that are none, no standard input."""

import math
import os
import sys

import click
import pytest

from ingest_service.cli import cli
from ingest_service.cli.output import duration
from ingest_service.cli.remote import screens
from ingest_service.client import PRIORITIES, IngestClient, Queue
from ingest_service.client.fields import Fields
from tests.cli.support import Run

NO_TEXT = os.fsdecode(b"\xff")


@pytest.mark.parametrize(
    "arguments",
    [
        ["top", "--every", "inf"],
        ["top", "--every", "1e300"],
        ["top", "--every", "nan"],
        ["pause", "--yes", "--reason", NO_TEXT],
        ["ls", "--status", NO_TEXT],
    ],
    ids=lambda arguments: " ".join(map(ascii, arguments)),
)
def test_what_nobody_means_is_a_usage_error(run: Run, arguments: list[str]) -> None:
    ran = run(*arguments)
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
            }
        )
    )
    console = screens.console()
    with console.capture() as shown:
        console.print(screens.queue(report))
    assert "for ever" in shown.get()
