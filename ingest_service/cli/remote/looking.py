"""`ingest-service ls`, `queue`, `top`, `when` and `proof`."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from itertools import count
from typing import Any

import click

from ingest_service.cli.output import (
    age,
    can_draw,
    clock_time,
    plural,
    say,
    say_json,
    table,
    whose,
)
from ingest_service.cli.remote.asking import (
    SOME_FAILED,
    Command,
    Seconds,
    json_option,
    priority_option,
    remote,
)
from ingest_service.client import PRIORITIES, IngestClient, Queue
from ingest_service.clock import SystemClock

_MOMENT = click.DateTime(
    (
        "%Y-%m-%dT%H:%M:%S%z",
        "%Y-%m-%dT%H:%M:%S.%f%z",
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%dT%H:%M:%S.%f",
        "%Y-%m-%d",
    )
)


def _with_offset(_: object, __: object, moment: datetime | None) -> datetime | None:
    """Take a moment without an offset for one of this machine."""
    try:
        return moment and moment.astimezone()
    except (ValueError, OverflowError):
        raise click.BadParameter("no calendar has this moment in all places") from None


@click.command(
    cls=Command,
    examples=("ingest-service ls --limit 10", "ingest-service ls --outcome failed"),
)
@click.option("--status", metavar="WORD", help="Only those that show this word.")
@click.option("--outcome", metavar="WORD", help="Only those that ended like this.")
@priority_option(default=None)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@json_option
@remote()
def ls(client: IngestClient, *, as_json: bool, **query: Any) -> None:
    """List ingestions, newest first."""
    found = client.ingestions(**query)
    if as_json:
        for summary in found:
            say_json(summary.document)
        return
    rows = [
        (
            each.ingestion_id,
            each.priority,
            each.outcome or each.status,
            f"{each.progress} %",
            f"{each.counts.total:,}",
            f"{each.counts.failed:,}",
            clock_time(each.created_at),
        )
        for each in found
    ]
    table(("ID", "CLASS", "STATE", "DONE", "ITEMS", "FAILED", "ACCEPTED"), rows)


@click.command(cls=Command, examples=("ingest-service queue", "ingest-service queue --json"))
@json_option
@remote()
def queue(client: IngestClient, *, as_json: bool) -> None:
    """Look at the queue once."""
    report = client.queue()
    if as_json:
        say_json(report.document)
    else:
        _print_queue(report)


@click.command(cls=Command, examples=("ingest-service top", "ingest-service top --every 5"))
@click.option("--every", type=Seconds(0.2, 86_400), default=1.0, show_default=True, help="Seconds.")
@click.option("--times", type=click.IntRange(1), help="How often; without it until Ctrl-C.")
@json_option
@remote(patient=True)
def top(client: IngestClient, *, every: float, times: int | None, as_json: bool) -> None:
    """Look at the queue as it changes.

    What state it is in, how much waits in each class, what is under way, what comes next and
    who has waited longest. Without a terminal it is printed again and again.
    """
    reports = _reports(client, every, times)
    with suppress(KeyboardInterrupt):
        if as_json:
            for report in reports:
                say_json(report.document)
        elif can_draw():
            from ingest_service.cli.remote.screens import pictures

            pictures(reports)
        else:
            for report in reports:
                _print_queue(report)


@click.command(
    cls=Command,
    examples=("ingest-service when 1000 --priority LOW", "ingest-service when 50 -p HIGH --json"),
)
@click.argument("items", type=click.IntRange(1))
@priority_option()
@json_option
@remote()
def when(client: IngestClient, *, items: int, priority: str, as_json: bool) -> None:
    """Tell when ITEMS ids would be finished, without sending them."""
    plan = client.plan(ids=(1 for _ in range(items)), priority=priority)
    if as_json:
        say_json(plan.document)
        return
    ahead = plan.queue.batches_ahead
    say(
        f"{plural(items, 'id')} in {priority}: {plural(plan.batches_total, 'batch', 'es')}, "
        f"{'an unknown number of' if ahead is None else f'{ahead:,}'} ahead; "
        f"starts {clock_time(plan.eta.next_start_at)}, done about {clock_time(plan.eta.finish_at)}"
    )


@click.command(
    cls=Command,
    examples=("ingest-service proof", "ingest-service proof --from 2026-01-01 --to 2026-02-01"),
)
@click.option("--from", "since", type=_MOMENT, callback=_with_offset, help="The first moment.")
@click.option(
    "--to", "until", type=_MOMENT, callback=_with_offset, help="The moment after the last one."
)
@json_option
@remote()
def proof(
    client: IngestClient, *, since: datetime | None, until: datetime | None, as_json: bool
) -> int:
    """Show that the rate was kept; the exit status is 1 if it was not.

    A time without an offset is one of this machine.
    """
    report = client.rate_proof(since, until)
    if as_json:
        say_json(report.document)
    else:
        gap = report.smallest_gap_seconds
        say(f"{plural(report.starts, 'batch start')}, {plural(report.violations, 'violation')}")
        if gap is not None:
            say(f"smallest gap {gap:g} s")
        for early in report.examples:
            say(
                f"{clock_time(early.at)}  {early.ingestion_id}  {early.gap_seconds:g} s "
                f"instead of {early.required_seconds:g} s"
            )
    return SOME_FAILED if report.violations else 0


def _reports(client: IngestClient, every: float, times: int | None) -> Iterator[Queue]:
    clock = SystemClock()
    for number in count(1):
        yield client.queue()
        if number == times:
            return
        clock.sleep(every)


def _print_queue(report: Queue) -> None:
    said = f"{report.state}, one batch every {report.interval_seconds:g} s, policy {report.policy}"
    if report.reason:
        said += f": {report.reason}"
    if report.until:
        said += f", until {clock_time(report.until)}"
    say(said)
    rows = [
        (name, f"{depth.ingestions:,}", f"{depth.batches:,}", f"{depth.items:,}",
         age(depth.oldest_at))
        for name in PRIORITIES
        for depth in (report.depth[name],)
    ]  # fmt: skip
    table(("CLASS", "INGESTIONS", "BATCHES", "ITEMS", "LONGEST WAIT"), rows)
    for batch in report.in_flight:
        say(f"under way  {whose(batch.ingestion_id)}  {plural(batch.items, 'item')}")
    for slot in report.next[:10]:
        say(f"{clock_time(slot.at)}  {slot.priority}  {whose(slot.ingestion_id)}")
    if len(report.next) > 10:
        say(f"and {len(report.next) - 10} more until {clock_time(report.next[-1].at)}")
