"""Live pictures on a terminal. All text of the service goes through `shown`."""

import io
import os
import sys
from collections.abc import Iterable, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ingest_service.cli.output import age, clock_time, shown, whose
from ingest_service.cli.remote import watching
from ingest_service.client import PRIORITIES, Queue, Status

_COLOURS = {"HIGH": "red", "MEDIUM": "yellow", "LOW": "cyan"}
_STATES = {"running": "green", "paused": "yellow", "held": "yellow"}
_OUTCOMES = {"succeeded": "green", "failed": "red", "partially_failed": "yellow"}
_ID_WIDTH = 36
#: Lines of the queue picture that list things.
_LISTED = 8


def console() -> Console:
    """Return the terminal; `NO_COLOR` is obeyed."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Of all that is drawn, only some bars and dots can be without a place in its encoding.
        sys.stdout.reconfigure(errors="replace")
    return Console(highlight=False, no_color=True if os.environ.get("NO_COLOR") else None)


class Watch:
    """The picture of some ingestions."""

    def __init__(self, ids: Sequence[str], screen: Console | None = None) -> None:
        self._statuses: dict[str, Status | None] = dict.fromkeys(ids)
        self._live = _live(screen or console())

    def __enter__(self) -> "Watch":
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def __call__(self, name: str, status: Status) -> None:
        """Show a change of what was asked for as `name`."""
        self._statuses[name] = status
        known = [each for each in self._statuses.values() if each is not None]
        self._live.update(ingestions(known), refresh=True)


def _live(screen: Console, *, whole: bool = False) -> Live:
    """Return a picture that lines on the same terminal do not get into."""
    # Errors that go elsewhere stay there.
    beside = sys.stderr is not None and sys.stderr.isatty()
    return Live(console=screen, auto_refresh=False, redirect_stderr=beside, screen=whole)


def ingestions(statuses: Iterable[Status]) -> RenderableType:
    """Return the pictures of ingestions, one below the other."""
    # Below each an empty line, and not a blank one: behind the last column, what the terminal
    # itself writes for Ctrl-C would begin a line that nobody takes away again.
    return Group(*(part for status in statuses for part in (_ingestion(status), Text())))


def _ingestion(status: Status) -> RenderableType:
    """Return the picture of an ingestion."""
    head = Text.assemble(
        (shown(status.ingestion_id), "bold"),
        "  ",
        (shown(status.priority), _COLOURS.get(status.priority, "")),
        "  ",
        (shown(status.outcome or status.status), _OUTCOMES.get(status.outcome or "", "")),
    )
    bar = Table.grid(padding=(0, 1), expand=True)
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True)
    counts = status.counts
    bar.add_row(
        ProgressBar(
            total=max(1, counts.total),
            completed=counts.settled,
            complete_style="blue",
            finished_style=_OUTCOMES.get(status.outcome or "", "yellow"),
        ),
        Text(shown(watching.progress(status))),
    )
    said = " · ".join(filter(None, (watching.place(status), watching.expectation(status))))
    lines = [text for text in (said, watching.reason(status)) if text]
    return Group(head, bar, *(Text(shown(text), "dim") for text in lines))


def queue(report: Queue) -> RenderableType:
    """Return the picture of the queue."""
    head = Text.assemble(
        (shown(report.state), f"bold {_STATES.get(report.state, '')}"),
        f"  one batch every {report.interval_seconds:g} s, policy {shown(report.policy)}",
        f", next at {clock_time(report.next_slot_at)}" if report.next_slot_at else "",
        f", done about {clock_time(report.empty_at)}" if report.empty_at else "",
        f": {shown(report.reason)}" if report.reason else "",
        f", until {clock_time(report.until)}" if report.until else "",
    )
    return Group(head, _depth(report), _lists(report))


def _depth(report: Queue) -> Table:
    table = _table("class", "ingestions", "batches", "items", "longest wait")
    for name in PRIORITIES:
        depth = report.depth[name]
        table.add_row(
            Text(name, _COLOURS[name]),
            f"{depth.ingestions:,}",
            f"{depth.batches:,}",
            f"{depth.items:,}",
            age(depth.oldest_at),
        )
    return table


def _lists(report: Queue) -> Table:
    both = Table.grid(padding=(0, 4))
    under_way = [
        (shown(whose(batch.ingestion_id)), f"{batch.items}, attempt {batch.attempt}")
        for batch in report.in_flight
    ]
    coming = [
        (clock_time(slot.at), shown(slot.priority), shown(whose(slot.ingestion_id)))
        for slot in report.next
    ]
    tables = (
        _listed(("under way", "items"), under_way),
        _listed(("at", "class", "comes next"), coming),
    )
    for table in tables:
        both.add_row(table)
    return both


def _listed(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = _table(*head)
    for row in rows[:_LISTED]:
        table.add_row(*map(Text, row))
    if len(rows) > _LISTED:
        table.add_row(Text(f"and {len(rows) - _LISTED} more"))
    if not rows:
        table.add_row(Text("nothing"))
    return table


def _table(*head: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in head:
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    return table


def pictures(reports: Iterable[Queue]) -> None:
    """Show one report after the other on the whole screen, until there is none."""
    with _live(console(), whole=True) as live:
        for report in reports:
            live.update(queue(report), refresh=True)
