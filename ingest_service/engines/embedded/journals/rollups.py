"""The history as it is kept: a row a minute, written by the commits that happen anyway."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import apsw

from ingest_service import json_text
from ingest_service.domain.history import MinuteRow, apart, beginning, minute_of
from ingest_service.domain.ingestion import Submission
from ingest_service.domain.rollup import Counts, accepted, add, told_in_steps, without
from ingest_service.engines.audit import Mark, MarkKind
from ingest_service.engines.embedded.journals.rows import Row
from ingest_service.engines.embedded.journals.statements import SQL
from ingest_service.engines.history import MOST_MARKS, PACE_MARKS, Recorded
from ingest_service.engines.micros import to_datetime, to_micros

#: Most hours that one step forgets.
_PER_STEP = 20
_HOUR = 60
#: The row with the counters of what was forgotten: totals never go back.
_FORGOTTEN = 0


class MemoryRollups:
    """Minutes and marks in memory; their owner has a lock."""

    def __init__(self) -> None:
        self.tell_depth: Callable[[], Counts] = dict
        self.totals: dict[str, int] = {}
        self._rows: dict[int, MinuteRow] = {}
        self._last: int | None = None
        #: The counters of the last minute; whoever looks back gets a copy.
        self._counts: dict[str, int] = {}
        self._marks: list[Mark] = []

    def count(self, at: datetime, counts: Counts) -> None:
        """Add to the minute of `at`."""
        minute = minute_of(at)
        if minute != self._last:
            self._begin(minute)
        add(self._counts, counts)
        add(self.totals, counts)

    def _begin(self, minute: int) -> None:
        if self._last is not None:
            self._rows[self._last] = self._rows[self._last]._replace(depth=self.tell_depth())
        row = self._rows.get(minute)
        # Another one, because whoever looks back has the one before.
        self._counts = dict(row.counts) if row else {}
        self._rows[minute] = MinuteRow(minute, self._counts, None)
        self._last = minute

    def marked(self, mark: Mark) -> None:
        """Keep a mark if it is about the pace."""
        if mark.kind in PACE_MARKS:
            self._marks.append(mark)

    def recorded(self, since: datetime, until: datetime) -> Recorded:
        """Return what is on record of a period."""
        first, last = minute_of(since), _last_minute(until)
        rows = [self._row(minute) for minute in sorted(self._rows) if minute <= last]
        before = sum(row.minute < first for row in rows)
        last_before = {mark.kind: mark for mark in self._marks if mark.at < since}
        marks = [mark for mark in self._marks if mark.at >= since]
        marks = [*sorted(last_before.values(), key=lambda mark: mark.at), *marks]
        return Recorded(rows[max(0, before - 1) :], marks, min(self._rows, default=None))

    def _row(self, minute: int) -> MinuteRow:
        row = self._rows[minute]
        return row._replace(counts=dict(row.counts)) if minute == self._last else row

    def forget(self, before: datetime) -> None:
        """Forget what was before."""
        for minute in [minute for minute in self._rows if minute < minute_of(before)]:
            if minute != self._last:
                del self._rows[minute]
        self._marks = [mark for mark in self._marks if mark.at >= before]


class RollupWriter:
    """The row of the minute, written as the last thing in each commit; of the thread that writes.

    What is counted in a transaction that fails is not counted.
    """

    def __init__(self) -> None:
        #: Tells what waits; it may take the engine's lock.
        self.tell_depth: Callable[[], Counts] = dict
        #: The row that was written last, as it is on the disk, and what all others add up to.
        self._known: tuple[MinuteRow | None, dict[str, int]] = None, {}
        #: The same if the transaction that is being written succeeds.
        self._next: tuple[MinuteRow | None, dict[str, int]] = self._known
        self._unwritten: list[tuple[int, Counts]] = []

    def load(self, db: apsw.Connection) -> None:
        """Go on where the last process ended."""
        others: dict[str, int] = {}
        for _, counts in db.execute(SQL["all_rollups"]):
            add(others, json_text.loads(cast(bytes, counts)))
        ((minute,),) = db.execute(SQL["last_rollup"]).fetchall()
        row = None if minute is None else _row(db, cast(int, minute))
        self._known = self._next = row, without(others, row.counts if row else {})

    def totals(self) -> Counts:
        """Return everything that was ever counted."""
        row, others = self._known
        totals = dict(others)
        add(totals, row.counts if row else {})
        return totals

    def count(self, at: datetime, counts: Counts) -> None:
        """Add to the minute of `at`, with the transaction that is being written."""
        self._unwritten.append((minute_of(at), counts))

    def write(self, db: apsw.Connection) -> None:
        """Write what was counted in this transaction."""
        row, others = self._known
        counts = dict(row.counts) if row else {}
        for minute, more in self._unwritten:
            if row is None or row.minute != minute:
                if row is not None:
                    _put(db, row.minute, counts)
                    self._end(db, row.minute, minute)
                    others = dict(others)
                    add(others, counts)
                db.execute(SQL["unsum_rollups"], {"minute": minute})
                row = _row(db, minute)
                counts = dict(row.counts)
                others = without(others, counts)
            add(counts, more)
        if row is not None and self._unwritten:
            _put(db, row.minute, counts)
            row = MinuteRow(row.minute, counts, None)
        self._next = row, others

    def ended(self, *, durable: bool) -> None:
        """Note what became of the transaction."""
        if durable:
            self._known = self._next
        self._unwritten.clear()

    def _end(self, db: apsw.Connection, minute: int, then: int) -> None:
        """Keep what waited at the end of a minute: as much as before the first change after it."""
        depth = json_text.dumps(self.tell_depth())
        db.execute(SQL["end_rollup"], {"minute": minute, "depth": depth})
        hour = minute // _HOUR
        # Anew from its minutes: a clock that is set back can end one twice, and before others.
        counts: dict[str, int] = {}
        for at, text, is_new in db.execute(SQL["rollups_of_hour"], {"hour": hour}).fetchall():
            add(counts, json_text.loads(cast(bytes, text)))
            if is_new:
                sum_up(db, cast(int, at), counts)
        if then // _HOUR != hour:
            values = {"hour": hour, "counts": json_text.dumps(counts), "depth": depth}
            db.execute(SQL["put_hour"], values)


def count_of(submission: Submission) -> Counts:
    """Return what counts a submission."""
    return accepted(submission.priority, submission.batches_total, len(submission.items))


def sum_up(db: apsw.Connection, minute: int, counts: Counts) -> None:
    """Write what the hour has counted by the end of a minute."""
    so_far = json_text.dumps(told_in_steps(counts))
    db.execute(SQL["sum_rollup"], {"minute": minute, "so_far": so_far})


def recorded(
    db: apsw.Connection, since: datetime, until: datetime, cuts: Iterable[int]
) -> Recorded:
    """Read what is on record of a period, put together between `cuts`."""
    rows = list(_rows(db, minute_of(since), _last_minute(until), cuts))
    ((first,),) = db.execute(SQL["first_rollup"]).fetchall()
    period = {"since": to_micros(since), "limit": MOST_MARKS}
    marks: list[Row] = []
    for kind in PACE_MARKS:
        marks += db.execute(SQL["pace_marks"], period | {"kind": kind.value})
        marks += db.execute(SQL["pace_mark_before"], period | {"kind": kind.value})
    return Recorded(rows, [_mark(row) for row in sorted(marks)], cast("int | None", first))


def _rows(db: apsw.Connection, first: int, last: int, cuts: Iterable[int]) -> Iterator[MinuteRow]:
    """Yield the last minute of each part, with the counters of all of it."""
    moments = json_text.dumps([first, *cuts, last + 1]).decode()
    values = {"cuts": moments, "first": first, "last": last}
    rows: list[Any] = db.execute(SQL["rollups"], values).fetchall()
    told = apart((minute, bool(is_sum), json_text.loads(text)) for minute, is_sum, text, _ in rows)
    for (minute, counts), (*_, depth) in zip(told, rows, strict=True):
        waited = None if depth is None else json_text.loads(depth)
        yield MinuteRow(minute, counts if minute >= first else {}, waited)


def forget(db: apsw.Connection, before: int) -> int:
    """Forget some hours that ended before, but for their totals; return how many."""
    values = {"before": before // 60_000_000, "limit": _PER_STEP}
    rows = db.execute(SQL["expired_hours"], values).fetchall()
    if rows:
        counts = dict(_row(db, _FORGOTTEN).counts)
        for _, text in rows:
            add(counts, json_text.loads(cast(bytes, text)))
        _put(db, _FORGOTTEN, counts)
        for name in ("forget_rollups", "forget_hours"):
            db.execute(SQL[name], {"last": rows[-1][0]})
    return len(rows)


def oldest(db: apsw.Connection) -> datetime | None:
    """Return when the first hour that is kept was over."""
    ((hour,),) = db.execute(SQL["first_hour"]).fetchall()
    return None if hour is None else beginning((cast(int, hour) + 1) * _HOUR)


def _last_minute(until: datetime) -> int:
    return minute_of(until - timedelta(microseconds=1))


def _put(db: apsw.Connection, minute: int, counts: Counts) -> None:
    db.execute(SQL["put_rollup"], {"minute": minute, "counts": json_text.dumps(counts)})


def _row(db: apsw.Connection, minute: int) -> MinuteRow:
    rows: Sequence[Row] = db.execute(SQL["rollup"], {"minute": minute}).fetchall()
    return MinuteRow(minute, json_text.loads(rows[0][0]) if rows else {}, None)


def _mark(row: Row) -> Mark:
    at, _, kind, before, after = row
    return Mark(to_datetime(at), MarkKind(kind), json_text.loads(before), json_text.loads(after))
