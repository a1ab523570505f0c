"""What was, in equal steps: minutes put together, and the slots that there could have been."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ingest_service.domain.pace import limits
from ingest_service.domain.rollup import Counts, add, without

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTES = HOUR // MINUTE


class MinuteRow(NamedTuple):
    """What happened in a minute."""

    #: Minutes since 1970.
    minute: int
    counts: Counts
    #: What waited at its end, see `rollup.both`; None while it is the last one.
    depth: Counts | None


class PaceAt(NamedTuple):
    """How slots open from a moment on."""

    at: datetime
    #: Seconds between slots.
    interval: float
    #: Whether none opens.
    paused: bool
    #: Until when none opens because of the upstream.
    held_until: datetime | None


@dataclass(frozen=True, slots=True)
class Step:
    """What happened in a part of a period."""

    at: datetime
    counts: Counts
    #: What waited at its end; None if nobody knows.
    depth: Counts | None
    #: How many slots could have been used; None if nobody knows, or there is no limit.
    slots: int | None


def minute_of(at: datetime) -> int:
    """Return the minute that a moment is in, counted from 1970."""
    return (at - _EPOCH) // MINUTE


def beginning(minute: int) -> datetime:
    """Return when a minute begins."""
    return _EPOCH + minute * MINUTE


def apart(rows: Iterable[tuple[int, bool, Counts]]) -> Iterator[tuple[int, Counts]]:
    """Yield minutes, each with what was counted since the one of its hour that comes before it.

    `rows` are in order: a minute, whether its counters are those of its hour so far, and these.
    Other counters are told as they are.
    """
    hour = 0
    so_far: Counts = {}
    for minute, is_sum, counts in rows:
        if is_sum:
            before = so_far if minute // _MINUTES == hour else {}
            hour, so_far = minute // _MINUTES, counts
            yield minute, without(counts, before) if before else counts
        else:
            yield minute, counts


def steps(
    rows: Sequence[MinuteRow],
    since: datetime,
    step: timedelta,
    count: int,
    paces: Sequence[PaceAt],
    now: datetime,
) -> list[Step]:
    """Return `count` steps from `since` on, a whole minute; `step` is whole minutes too.

    `rows` are in order, and the first may be of before `since`. The last one has what waits
    `now` as its depth. `paces` are in order; before the first of them nothing is known.
    """
    first, size = minute_of(since), step // MINUTE
    counts: list[dict[str, int]] = [{} for _ in range(count)]
    for row in rows:
        if row.minute >= first:
            add(counts[(row.minute - first) // size], row.counts)
    minutes = [row.minute for row in rows]
    ends = [since + step * (number + 1) for number in range(count)]
    opened = _slots_until([since, *(min(end, now) for end in ends)], paces)
    return [
        Step(
            at=end - step,
            counts=counts[number],
            depth=_depth(rows, bisect_left(minutes, minute_of(end)) - 1) if begun else None,
            slots=_between(*opened[number : number + 2]),
        )
        for number, end in enumerate(ends)
        for begun in [end - step <= now]
    ]


class _Slots(NamedTuple):
    """Sums from some moment on."""

    slots: float = 0.0
    #: Seconds in which there was no limit.
    unlimited: float = 0.0


def _slots_until(moments: Sequence[datetime], paces: Sequence[PaceAt]) -> list[_Slots | None]:
    """Return how many slots opened until each of `moments`; None where that is not known."""
    starts = [pace.at for pace in paces]
    before = [_Slots()]
    for pace, then in zip(paces, starts[1:], strict=False):
        before.append(_more(before[-1], pace, then))
    sums: list[_Slots | None] = []
    for moment in moments:
        at = bisect_right(starts, moment) - 1
        sums.append(None if at < 0 else _more(before[at], paces[at], moment))
    return sums


def _more(before: _Slots, pace: PaceAt, until: datetime) -> _Slots:
    """Return the sums at a moment within a pace, from those at its beginning."""
    opens_at = max(pace.at, pace.held_until or pace.at)
    seconds = (until - opens_at).total_seconds()
    if pace.paused or seconds <= 0:
        return before
    if not limits(pace.interval):
        return _Slots(before.slots, before.unlimited + seconds)
    return _Slots(before.slots + seconds / pace.interval, before.unlimited)


def _between(before: _Slots | None, after: _Slots | None) -> int | None:
    """Return the whole slots between two sums, so that steps add up."""
    if before is None or after is None or after.unlimited > before.unlimited:
        return None
    # What is counted in binary fractions of a second is not short of one by an ulp.
    return max(0, math.floor(after.slots + 1e-6) - math.floor(before.slots + 1e-6))


def _depth(rows: Sequence[MinuteRow], at: int) -> Counts | None:
    return rows[at].depth if at >= 0 else None


#: How long a period is that nobody has named, and in how many steps one is told then.
_LENGTH = HOUR
_STEPS = 60
#: Steps that are easy to read, in minutes.
_ROUND = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720)
#: Most steps of a period.
MOST_STEPS = 1_000


class Period(NamedTuple):
    """From when, a whole minute, to when, in steps of so many minutes; the last may be shorter."""

    since: datetime
    until: datetime
    step: timedelta


class PeriodError(ValueError):
    """A period that cannot be told, and which part of it is to blame."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(reason)
        self.part = part


def period(
    since: datetime | None, until: datetime | None, step: timedelta | None, now: datetime
) -> Period:
    """Return what is meant by a question that leaves out some; raise `PeriodError`."""
    if until is None:
        # The minute that is not over belongs to it.
        until = max(now, since + MINUTE if since and since < now else now)
    if since is None:
        since = beginning(-(-(until - _LENGTH - _EPOCH) // MINUTE))
    if until <= since:
        raise PeriodError("from", "This must be before the end of the period.")
    since = beginning(minute_of(since))
    if step is None:
        step = _round_step(until - since)
        # Round steps begin at round times.
        since -= (since - _EPOCH) % step
    if -((since - until) // step) > MOST_STEPS:
        raise PeriodError("step", f"That makes more than {MOST_STEPS:,} steps.")
    return Period(since, until, step)


def _round_step(length: timedelta) -> timedelta:
    """Return a step of which 60 are enough for a period."""
    for minutes in _ROUND:
        if length <= _STEPS * minutes * MINUTE:
            return minutes * MINUTE
    day = timedelta(days=1)
    return day * -(-length // (_STEPS * day))
