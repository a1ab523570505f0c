"""What was, drawn: shapes for SVG, and the same numbers as a table.

Everything is counted in steps to the right and in the chart's own unit upwards; the page
stretches it to the room that there is.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from ingest_service.domain.model import Priority
from ingest_service.web.dashboard.formats import number, span


class Period(NamedTuple):
    """How far the charts look back."""

    length: timedelta
    step: timedelta
    words: str


PERIODS = {
    "1h": Period(timedelta(hours=1), timedelta(minutes=1), "the last hour"),
    "24h": Period(timedelta(days=1), timedelta(minutes=15), "the last 24 hours"),
    "7d": Period(timedelta(days=7), timedelta(hours=1), "the last 7 days"),
}
#: How high a chart is, in units of its own; whole numbers are short to write.
HEIGHT = 1_000
#: Seconds, minutes, hours, days that are easy to read.
_ROUND_SPANS = (
    *(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_200, 1_800),
    *(hours * 3_600 for hours in (1, 2, 4, 8, 12, 24, 48, 96, 168, 336, 720)),
)
_CLASSES = tuple(priority.name for priority in Priority)


class Bar(NamedTuple):
    """A rectangle."""

    x: float
    y: int
    width: float
    height: int
    style: str


class Line(NamedTuple):
    """A line through points; where nothing is known it has a gap."""

    path: str
    style: str


@dataclass(frozen=True, slots=True)
class Series:
    """What is drawn of one kind: a value a step, None where nothing is known."""

    name: str
    style: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, ready to be written out."""

    name: str
    title: str
    about: str
    #: What the top of it stands for, in words.
    top: str
    steps: int
    bars: Sequence[Bar]
    lines: Sequence[Line]
    #: What its signs mean: (name, style).
    legend: Sequence[tuple[str, str]]
    #: When each step began, with a number a column, in words.
    rows: Sequence[tuple[datetime, Sequence[str]]]


class Mark(NamedTuple):
    """Something that was done to the queue."""

    at: datetime
    #: In which step, counted with its fraction.
    x: float
    words: str


@dataclass(frozen=True, slots=True)
class Charts:
    """All charts of a period."""

    since: datetime
    until: datetime
    charts: Sequence[Chart]
    marks: Sequence[Mark]


def charts(history: Mapping[str, Any]) -> Charts:
    """Draw what `GET /queue/history` answers."""
    steps: list[Mapping[str, Any]] = history["steps"]
    since, until = _time(history["from"]), _time(history["to"])
    ats = [_time(step["at"]) for step in steps]
    drawn = [_depth(ats, steps), _throughput(ats, steps), _waits(ats, steps), _answers(ats, steps)]
    seconds = history["step_seconds"]
    marks = [
        Mark(at, (at - since).total_seconds() / seconds, _mark_words(mark))
        for mark in history["marks"]
        if since <= (at := _time(mark["at"])) <= until
    ]
    return Charts(since, until, drawn, marks)


def _depth(ats: Sequence[datetime], steps: Sequence[Mapping[str, Any]]) -> Chart:
    series = [
        Series(name, name.lower(), [_batches(step["depth"][name]) for step in steps])
        for name in _CLASSES
    ]
    about = "Batches that waited at the end of each step, by class."
    return _chart("depth", "Waiting batches", about, ats, number, stacked=series)


def _throughput(ats: Sequence[datetime], steps: Sequence[Mapping[str, Any]]) -> Chart:
    started = [_started(step) for step in steps]
    slots = [step["slots"] for step in steps]
    unused = [
        None if open_ is None else max(0, open_ - used)
        for open_, used in zip(slots, started, strict=True)
    ]
    series = [Series("started", "used", started), Series("slots not used", "unused", unused)]
    about = "Batches that were started, and the slots that could have been used besides."
    return _chart("throughput", "Slots", about, ats, number, stacked=series)


def _waits(ats: Sequence[datetime], steps: Sequence[Mapping[str, Any]]) -> Chart:
    series = [
        Series(f"{name} {quantile}", f"{name.lower()} {quantile}", values)
        for name in _CLASSES
        for quantile in ("p50", "p95")
        for values in [[_maybe(step["wait_seconds"][name], quantile) for step in steps]]
    ]
    about = "From being accepted to the start: half of the batches waited less than p50."
    return _chart("waits", "Wait by class", about, ats, span, lines=series)


def _answers(ats: Sequence[datetime], steps: Sequence[Mapping[str, Any]]) -> Chart:
    series = [
        Series(
            quantile,
            f"accent {quantile}",
            [_maybe(step["upstream_seconds"], quantile) for step in steps],
        )
        for quantile in ("p50", "p95")
    ]
    failed = [_failed(step) for step in steps]
    about = (
        "How long the upstream took at most: p50 for half of the batches, p95 for 95 of 100; from "
        "the top, how many items failed."
    )
    return _chart("upstream", "Upstream", about, ats, span, lines=series, failed=failed)


def _chart(
    name: str,
    title: str,
    about: str,
    ats: Sequence[datetime],
    words: Callable[[Any], str],
    *,
    stacked: Sequence[Series] = (),
    lines: Sequence[Series] = (),
    failed: Sequence[int] = (),
) -> Chart:
    sums = [sum(filter(None, values)) for values in zip(*(s.values for s in stacked), strict=True)]
    peaks = [value for line in lines for value in line.values if value is not None]
    top = _round_up(max([*sums, *peaks], default=0), words)
    columns = [[_cell(value, words) for value in series.values] for series in (*stacked, *lines)]
    legend = [(series.name, series.style) for series in (*stacked, *lines)]
    if failed:
        columns.append([number(value) for value in failed])
        legend.append(("items that failed", "failed"))
    return Chart(
        name=name,
        title=title,
        about=about,
        top=words(top),
        steps=len(ats),
        bars=[*_bars(stacked, top), *_ticks(failed)],
        lines=[Line(_path(line.values, top), line.style) for line in lines],
        legend=legend,
        rows=list(zip(ats, zip(*columns, strict=True), strict=True)),
    )


def _bars(stacked: Sequence[Series], top: float) -> Iterable[Bar]:
    for step, values in enumerate(zip(*(series.values for series in stacked), strict=True)):
        below = 0
        for series, value in zip(stacked, values, strict=True):
            height = round((value or 0) * HEIGHT / top)
            if height:
                yield Bar(step + 0.08, HEIGHT - below - height, 0.84, height, series.style)
            below += height


def _ticks(failed: Sequence[int]) -> Iterable[Bar]:
    """Failures hang from the top: they must not hide behind what goes well."""
    most = max(failed, default=0)
    for step, value in enumerate(failed):
        if value:
            yield Bar(step + 0.2, 0, 0.6, max(40, round(value * 250 / most)), "failed")


def _path(values: Sequence[float | None], top: float) -> str:
    parts, pen = [], "M"
    for step, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        y = HEIGHT - round(value * HEIGHT / top)
        # A point alone is a line of no length, which round ends make visible.
        parts.append(f"{pen}{step + 0.5:g} {y}" + ("h0" if pen == "M" else ""))
        pen = "L"
    return "".join(parts)


def _round_up(value: float, words: Callable[[Any], str]) -> float:
    """Return a round number, or a round duration, that is not smaller."""
    if words is span and value > 1:
        return next((seconds for seconds in _ROUND_SPANS if seconds >= value), value)
    top = 1.0
    while top < value:
        top *= 10
    round_ = next(step for step in (top / 5, top / 2, top) if step >= value)
    return round_ if words is span else max(2, math.ceil(round_))


def _cell(value: float | None, words: Callable[[Any], str]) -> str:
    return "-" if value is None else words(value)


def _mark_words(mark: Mapping[str, Any]) -> str:
    detail = mark.get("detail")
    return f"{mark['kind']}: {detail}" if detail else str(mark["kind"])


def _batches(of_class: Mapping[str, Any] | None) -> int | None:
    return None if of_class is None else int(of_class["batches"])


def _started(step: Mapping[str, Any]) -> int:
    return sum(int(of_class["batches"]) for of_class in step["started"].values())


def _failed(step: Mapping[str, Any]) -> int:
    return sum(int(of_class["items"]["failed"]) for of_class in step["settled"].values())


def _maybe(quantiles: Mapping[str, Any] | None, quantile: str) -> float | None:
    return quantiles.get(quantile) if quantiles else None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
