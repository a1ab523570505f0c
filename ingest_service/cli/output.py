"""What is printed: the one place through which everything goes that others have written."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from ingest_service.clock import SystemClock

_CLOCK = SystemClock()
#: Seconds that nobody counts any more, as a server may make them up.
_FOR_EVER = 1e12


def shown(value: object) -> str:
    """Return `value` as text that a terminal shows and does not obey.

    Whatever cannot be seen, or has no place in its encoding, is written as in JSON, so that
    JSON stays JSON.
    """
    text = str(value)
    if encoded(text) is not None:
        return text
    return "".join(c if encoded(c) is not None else _escaped(c) for c in text)


def encoded(text: str) -> bytes | None:
    """Return what is printed for `text`, None if it cannot be shown."""
    if not text.isprintable():
        return None
    # What stands in for it while there is a live picture does not tell its encoding.
    encodings = (getattr(stream, "encoding", None) for stream in (sys.stdout, sys.__stdout__))
    try:
        return text.encode(next(filter(None, encodings), "utf-8"))
    except UnicodeEncodeError:
        return None


def _escaped(character: str) -> str:
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]


def say(text: object, *, err: bool = False) -> None:
    """Print one line."""
    # The stream itself: click would look behind what keeps a live picture and the lines apart.
    click.echo(shown(text), file=sys.stderr if err else sys.stdout, err=err)


def say_json(document: Mapping[str, Any]) -> None:
    """Print what the API has answered, as one line."""
    say(json.dumps(document, ensure_ascii=False, separators=(",", ":")))


def forget_unwritten() -> None:
    """Let go of what could not be written: that is known, and Python would fail with it again."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_terminal() -> bool:
    """Tell whether somebody looks at what is printed."""
    return sys.stdout.isatty()


def can_draw() -> bool:
    """Tell whether there is a terminal that can go back to what it has printed."""
    return is_terminal() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under one another; each column is as wide as its widest cell."""
    cells = [list(head), *([shown(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        say("  ".join(padded).rstrip())


def clock_time(moment: datetime | None) -> str:
    """Return when something is, for people here: the time, with the day if it is another one."""
    if moment is None:
        return "-"
    here, today = moment.astimezone(), _CLOCK.now().astimezone()
    return here.strftime("%H:%M:%S" if here.date() == today.date() else "%Y-%m-%d %H:%M:%S")


def age(moment: datetime | None) -> str:
    """Return how long ago something was."""
    return "-" if moment is None else duration((_CLOCK.now() - moment).total_seconds())


def duration(seconds: float) -> str:
    """Return a duration in one or two units."""
    if not seconds < _FOR_EVER:
        return "for ever"
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def whose(ingestion_id: str | None) -> str:
    """Return what an ingestion is called where those of others have no names."""
    return "another's" if ingestion_id is None else ingestion_id


def plural(count: int, noun: str, ending: str = "s") -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else ending}"
