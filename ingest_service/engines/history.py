"""What was: the record that an engine keeps, and what is told of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from ingest_service.domain.history import MinuteRow, PaceAt, Step, beginning, steps
from ingest_service.domain.rollup import Counts
from ingest_service.engines.audit import Mark, MarkKind

#: Marks that change how slots open, or when they could have.
PACE_MARKS = (
    MarkKind.PAUSE,
    MarkKind.RESUME,
    MarkKind.INTERVAL,
    MarkKind.HOLD,
    MarkKind.RESTART,
)
#: Most of them that are looked at, and that are told; the newest.
MOST_MARKS = 10_000
MOST_TOLD = 1_000
#: What the mark of a restart calls the interval from then on.
INTERVAL_KEY = "interval_seconds"


class Recorded(NamedTuple):
    """What is on record of a period."""

    #: In order; with the last one from before the period.
    rows: Sequence[MinuteRow]
    #: Of `PACE_MARKS`, in order, up to now; with the last one of each kind from before the period.
    marks: Sequence[Mark]
    #: The first minute of all, None if there is none.
    first_minute: int | None


class QueueMark(NamedTuple):
    """Something that was done to the queue as a whole."""

    at: datetime
    kind: MarkKind
    #: What there is to say about it.
    detail: str | None


@dataclass(frozen=True, slots=True)
class History:
    """What happened in a period, in steps."""

    since: datetime
    until: datetime
    step: timedelta
    steps: Sequence[Step]
    marks: Sequence[QueueMark]


class QueueNow(NamedTuple):
    """How the queue is while its history is told."""

    at: datetime
    #: Seconds between slots.
    interval: float
    is_paused: bool
    depth: Counts


def told(
    recorded: Recorded, since: datetime, until: datetime, step: timedelta, now: QueueNow
) -> History:
    """Return what is told of a period; `since` is a whole minute, and so is `step`."""
    rows = list(recorded.rows)
    if rows and rows[-1].depth is None:
        rows[-1] = rows[-1]._replace(depth=now.depth)
    count = -((since - until) // step)
    marks = [mark for mark in recorded.marks if since <= mark.at <= until][-MOST_TOLD:]
    return History(
        since=since,
        until=until,
        step=step,
        steps=steps(rows, since, step, count, _paces(recorded, now), min(now.at, until)),
        marks=[QueueMark(mark.at, mark.kind, _detail(mark)) for mark in marks],
    )


def _paces(recorded: Recorded, now: QueueNow) -> list[PaceAt]:
    """Return how slots opened from the first moment on that is on record."""
    marks = recorded.marks
    begins = [mark.at for mark in marks[:1]]
    if recorded.first_minute is not None:
        begins.append(beginning(recorded.first_minute))
    if not begins:
        return []
    paces = [PaceAt(min(begins), _first_interval(marks, now), _first_paused(marks, now), None)]
    for mark in marks:
        pace = paces[-1]._replace(at=mark.at)
        after = mark.after
        if mark.kind in (MarkKind.PAUSE, MarkKind.RESUME):
            pace = pace._replace(paused=mark.kind is MarkKind.PAUSE)
        elif mark.kind is MarkKind.INTERVAL:
            pace = pace._replace(interval=float(after))
        elif mark.kind is MarkKind.HOLD:
            pace = pace._replace(held_until=datetime.fromisoformat(after))
        elif INTERVAL_KEY in after:
            pace = pace._replace(interval=float(after[INTERVAL_KEY]))
        paces.append(pace)
    return paces


def _first_interval(marks: Sequence[Mark], now: QueueNow) -> float:
    for mark in marks:
        if mark.kind is MarkKind.INTERVAL:
            return float(mark.before)
        if mark.kind is MarkKind.RESTART and INTERVAL_KEY in mark.after:
            # What was before it, nobody knows.
            return float(mark.after[INTERVAL_KEY])
    return now.interval


def _first_paused(marks: Sequence[Mark], now: QueueNow) -> bool:
    for mark in marks:
        if mark.kind in (MarkKind.PAUSE, MarkKind.RESUME):
            return mark.before is not None
    return now.is_paused


def _detail(mark: Mark) -> str | None:
    if mark.kind is MarkKind.PAUSE:
        return str(mark.after)
    if mark.kind is MarkKind.INTERVAL:
        return f"from {mark.before:g} s to {mark.after:g} s"
    if mark.kind is MarkKind.HOLD:
        return f"until {mark.after}"
    if mark.kind is MarkKind.RESTART:
        return f"{mark.after['unfinished']} unfinished"
    return None
