"""`ingest-service submit`."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import click

from ingest_service.cli.output import clock_time, plural, say, say_json
from ingest_service.cli.remote import reading
from ingest_service.cli.remote.asking import (
    SOME_FAILED,
    Command,
    Seconds,
    called,
    json_option,
    line,
    priority_option,
    remote,
)
from ingest_service.cli.remote.results import check_output, fetch
from ingest_service.client import IngestClient, Ingestion, Items, Refused, parts


@click.command(
    cls=Command,
    examples=(
        "ingest-service submit 1 2 3 100-200 --priority HIGH --wait",
        "ingest-service submit -f ids.txt --priority LOW --wait --results out.csv",
    ),
)
@click.argument("items", nargs=-1, metavar="[IDS|-]...")
@click.option(
    "-f",
    "--file",
    metavar="FILE",
    type=click.Path(),
    help="A file of ids or mappings; - is standard input.",
)
@click.option("--column", metavar="NAME", help="The file is CSV, and the ids are in this column.")
@priority_option()
@click.option("--dry-run", is_flag=True, help="Tell the plan; store nothing.")
@click.option("--key", metavar="TEXT", help="The idempotency key of an earlier run.")
@click.option("--once", is_flag=True, help="The same content is never queued twice in 24 hours.")
@click.option("--wait", is_flag=True, help="Follow it to its end.")
@click.option("--timeout", type=Seconds(0), help="Seconds to follow it at most.")
@click.option(
    "--results", metavar="FILE", type=click.Path(), help="Follow it; then fetch the results."
)
@json_option
@remote(patient=True)
def submit(
    client: IngestClient,
    *,
    items: tuple[str, ...],
    file: str | None,
    column: str | None,
    priority: str,
    dry_run: bool,
    key: str | None,
    once: bool,
    wait: bool,
    timeout: float | None,
    results: str | None,
    as_json: bool,
) -> int:
    """Submit ids or mappings.

    IDS are numbers and ranges like 1-5000. A file has the same line by line, or mappings as
    NDJSON, or a JSON array of either; with --column it is CSV. It is not read
    into memory: what is more than one request may have is submitted in several.
    """
    waits = wait or results is not None
    for is_wrong, told in (
        (key is not None and once, "--key and --once exclude each other."),
        (dry_run and waits, "--dry-run submits nothing, so there is nothing to wait for."),
        (timeout is not None and not waits, "--timeout is for --wait and --results."),
    ):
        if is_wrong:
            raise click.UsageError(told)
    with _chosen(items, file, column) as chosen:
        if dry_run:
            return _plan(client, chosen, priority, as_json=as_json)
        if results is not None:
            check_output(results)
        submitted = _submit(client, chosen, priority, key, once=once, as_json=as_json)
    if not waits:
        return 0
    from ingest_service.cli.remote.watching import watch_all

    ids = [ingestion.ingestion_id for ingestion in submitted]
    status = watch_all(client, ids, timeout, as_json=as_json)
    if results is not None and status in (0, SOME_FAILED):
        fetch(client, ids, results, None, None)
    return status


@contextmanager
def _chosen(items: tuple[str, ...], file: str | None, column: str | None) -> Iterator[Items]:
    if items == ("-",) and file is None:
        items, file = (), "-"
    if bool(items) == (file is not None):
        raise click.UsageError("Name either ids or one file: `submit 1 2 3`, `submit -f FILE`.")
    if file is None:
        if column is not None:
            raise click.UsageError("--column is of a file; -f names one.")
        yield reading.items_of_words(items)
        return
    with reading.opened(file) as text:
        yield reading.items_of_file(text, file, column)


def _submit(
    client: IngestClient, items: Items, priority: str, key: str | None, *, once: bool, as_json: bool
) -> list[Ingestion]:
    # Made here, so that it is known however this ends.
    key = str(uuid4()) if key is None else key
    submitted: list[Ingestion] = []
    try:
        for ingestion in client.submit_parts(items, priority=priority, key=key, once=once):
            submitted.append(ingestion)
            _tell(ingestion, as_json=as_json)
    except BaseException as error:
        # What is not known to be refused may have been accepted; so whoever hangs up is told too.
        if submitted or isinstance(error, KeyboardInterrupt) or getattr(error, "uncertain", False):
            say("What was not accepted yet can be submitted safely with", err=True)
            say(f"  {line(*_again(key, once=once))}", err=True)
        raise
    if not submitted:
        raise click.UsageError("There is nothing to submit.")
    return submitted


def _again(key: str, *, once: bool) -> list[str]:
    """Return the command that goes on with what this one has begun."""
    name, command, *arguments = called()
    if once or click.get_current_context().params["key"] is not None:
        return [name, command, *arguments]
    # First: behind `--` it would be an item.
    return [name, command, "--key", key, *arguments]


def _tell(ingestion: Ingestion, *, as_json: bool) -> None:
    if ingestion.replayed:
        say(f"Already accepted{_when(ingestion)}, nothing new was queued.", err=as_json)
    if as_json:
        say_json(ingestion.document)
    else:
        say(f"{ingestion.ingestion_id}  {plural(ingestion.items, 'item')}")


def _when(ingestion: Ingestion) -> str:
    try:
        return f" at {clock_time(ingestion.status().created_at)}"
    except Refused:
        # A key may be allowed to submit and not to look.
        return ""


def _plan(client: IngestClient, items: Items, priority: str, *, as_json: bool) -> int:
    requests = 0
    for part in parts(items, priority, client.limits()):
        requests += 1
        plan = client.plan_part(part)
        if as_json:
            say_json(plan.document)
            continue
        say(
            f"{plural(plan.items, 'item')} in {plural(plan.batches_total, 'batch', 'es')} "
            f"of {plan.batch_size}: starts {clock_time(plan.eta.next_start_at)}, "
            f"done about {clock_time(plan.eta.finish_at)}"
        )
    if requests > 1 and not as_json:
        say(f"These are {requests} requests, each planned as if the others were not there.")
    if not requests:
        raise click.UsageError("There is nothing to submit.")
    return 0
