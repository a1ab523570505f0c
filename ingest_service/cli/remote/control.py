"""`ingest-service cancel`, `move`, `retry`, `pause`, `resume` and `interval`.

Each tells its effect first, and asks where that hurts others.
"""

import click

from ingest_service.cli.output import clock_time, duration, plural, say, say_json
from ingest_service.cli.remote.asking import (
    Command,
    Seconds,
    confirm,
    for_each,
    json_option,
    priority_argument,
    remote,
    yes_option,
)
from ingest_service.client import Counts, IngestClient, Moved, Queue

_ID = "0056f4ac-779d-41c1-8ebf-ae438b976afa"
#: Characters that a reason may have.
_LONGEST_REASON = 1_024


def _reason(_: object, __: object, text: str) -> str:
    """Refuse what tells nothing, or the service would refuse, before anybody is asked."""
    if not text.strip():
        raise click.BadParameter("it is empty.")
    if len(text) > _LONGEST_REASON:
        raise click.BadParameter(f"it has more than {_LONGEST_REASON:,} characters.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("it is no text.") from None
    return text


@click.command(
    cls=Command,
    examples=(f"ingest-service cancel {_ID}", f"ingest-service cancel {_ID} --yes --json"),
)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@yes_option
@json_option
@remote()
def cancel(client: IngestClient, *, ids: tuple[str, ...], yes: bool, as_json: bool) -> int:
    """Cancel what has not been started; batches under way end.

    One that cannot be cancelled, as one that is finished, keeps nothing from the others.
    """
    found: dict[str, Counts] = {}

    def look(ingestion_id: str) -> None:
        found[ingestion_id] = client.status(ingestion_id).counts

    def stop(ingestion_id: str) -> None:
        done = client.cancel(ingestion_id)
        if as_json:
            say_json(done.document)
        else:
            say(f"{done.ingestion_id}  {plural(done.cancelled_items, 'item')} cancelled")

    worst = for_each(ids, look)
    waiting = [counts for counts in found.values() if counts.queued]
    if waiting:
        queued = sum(counts.queued for counts in waiting)
        under_way = sum(counts.in_flight for counts in waiting)
        confirm(
            f"{plural(queued, 'item')} of {plural(len(waiting), 'ingestion')} will never be sent; "
            f"{under_way:,} under way will end.",
            yes=yes,
        )
    return max(worst, for_each(found, stop))


@click.command(
    cls=Command,
    examples=(f"ingest-service move {_ID} HIGH", f"ingest-service move {_ID} LOW --yes"),
)
@click.argument("ingestion_id", metavar="ID")
@priority_argument
@click.option("--dry-run", is_flag=True, help="Tell the effect; change nothing.")
@yes_option
@json_option
@remote()
def move(
    client: IngestClient,
    *,
    ingestion_id: str,
    priority: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Give what is left of an ingestion another priority."""
    effect = client.move(ingestion_id, priority, dry_run=True)
    if not dry_run:
        if effect.delayed_ingestions:
            confirm(f"{_cost(effect)}.", yes=yes)
        effect = client.move(ingestion_id, priority)
    if as_json:
        say_json(effect.document)
    else:
        say(
            f"{effect.ingestion_id}  {effect.old_priority} -> {effect.priority}: "
            f"done about {clock_time(effect.new_eta.finish_at)} "
            f"instead of {clock_time(effect.old_eta.finish_at)}; {_cost(effect)}"
        )


@click.command(
    cls=Command, examples=(f"ingest-service retry {_ID}", f"ingest-service retry {_ID} --yes")
)
@click.argument("ingestion_id", metavar="ID")
@yes_option
@json_option
@remote()
def retry(client: IngestClient, *, ingestion_id: str, yes: bool, as_json: bool) -> None:
    """Send what has failed once more, in its old place."""
    status, queue = client.status(ingestion_id), client.queue()
    # What was cancelled is refused, and not asked about.
    if status.counts.failed and status.outcome != "cancelled" and queue.waiting:
        confirm(
            f"{plural(status.counts.failed, 'item')} will be sent once more, in their old place, "
            f"before what came later; {plural(queue.waiting, 'ingestion')} "
            f"{'waits' if queue.waiting == 1 else 'wait'} now.",
            yes=yes,
        )
    done = client.retry(ingestion_id)
    if as_json:
        say_json(done.document)
    else:
        say(f"{done.ingestion_id}  {plural(done.retried_items, 'item')} once more")


@click.command(
    cls=Command,
    examples=(
        'ingest-service pause --reason "invoices are being written"',
        "ingest-service pause --reason maintenance --yes",
    ),
)
@click.option(
    "--reason", metavar="TEXT", required=True, callback=_reason, help="What others are told."
)
@yes_option
@json_option
@remote()
def pause(client: IngestClient, *, reason: str, yes: bool, as_json: bool) -> None:
    """Start nothing more until `resume`; batches under way end."""
    _confirm_for_all(client.queue(), "will wait until it is resumed", yes=yes)
    _tell(client.pause(reason), as_json=as_json)


@click.command(cls=Command, examples=("ingest-service resume", "ingest-service resume --json"))
@json_option
@remote()
def resume(client: IngestClient, *, as_json: bool) -> None:
    """Go on after a pause, at the pace."""
    _tell(client.resume(), as_json=as_json)


@click.command(
    cls=Command, examples=("ingest-service interval 2.5", "ingest-service interval 10 --yes")
)
@click.argument("seconds", type=Seconds(0, 86_400))
@yes_option
@json_option
@remote()
def interval(client: IngestClient, *, seconds: float, yes: bool, as_json: bool) -> None:
    """Change the SECONDS from one batch start to the next.

    Holds over restarts, until INGEST_INTERVAL itself is changed.
    """
    queue = client.queue()
    if seconds > (spacing := _spacing(queue)):
        batches = sum(depth.batches for depth in queue.depth.values())
        later = duration(batches * (seconds - spacing))
        _confirm_for_all(queue, f"will end later, the last one by about {later}", yes=yes)
    elif seconds > queue.interval_seconds:
        say("Nobody ends later: batches start further apart than that as it is.", err=True)
    elif seconds < queue.interval_seconds:
        say(
            f"The API gets a batch every {seconds:g} s instead of every "
            f"{queue.interval_seconds:g} s.",
            err=True,
        )
    _tell(client.set_interval(seconds), as_json=as_json)


def _spacing(queue: Queue) -> float:
    """Return the seconds between starts to come: batches may take longer than the interval."""
    if len(queue.next) < 2:
        return queue.interval_seconds
    ahead = (queue.next[-1].at - queue.next[0].at).total_seconds()
    return max(queue.interval_seconds, ahead / (len(queue.next) - 1))


def _confirm_for_all(queue: Queue, effect: str, *, yes: bool) -> None:
    if queue.waiting:
        confirm(f"{plural(queue.waiting, 'ingestion')} {effect}.", yes=yes)


def _tell(queue: Queue, *, as_json: bool) -> None:
    if as_json:
        say_json(queue.document)
        return
    because = f": {queue.reason}" if queue.reason else ""
    say(
        f"The queue is {queue.state}{because}; one batch every {queue.interval_seconds:g} s, "
        f"{plural(queue.waiting, 'ingestion')} waiting"
    )


def _cost(effect: Moved) -> str:
    if not effect.delayed_ingestions:
        return "nobody ends later"
    others = effect.delayed_ingestions
    late = duration(effect.longest_delay_seconds)
    if others == 1:
        return f"one other ingestion ends later, by {late}"
    return f"{others:,} other ingestions end later, one of them by {late}"
