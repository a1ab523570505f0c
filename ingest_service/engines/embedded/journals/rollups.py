"""The history as it is kept: a row a minute, written by the commits that happen anyway."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import cast

import apsw

from ingest_service import json_text
from ingest_service.domain.history import MinuteRow, beginning, minute_of
from ingest_service.domain.ingestion import Submission
from ingest_service.domain.rollup import Counts, accepted, add
from ingest_service.engines.audit import Mark, MarkKind
from ingest_service.engines.embedded.journals.rows import Row, to_datetime, to_micros
from ingest_service.engines.embedded.journals.statements import SQL
from ingest_service.engines.history import MOST_MARKS, PACE_MARKS, Recorded

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
        self._marks: list[Mark] = []

    def count(self, at: datetime, counts: Counts) -> None:
        """Add to the minute of `at`."""
        minute = minute_of(at)
        if self._last is not None and minute != self._last:
            self._rows[self._last] = self._rows[self._last]._replace(depth=self.tell_depth())
        row = self._rows.get(minute) or MinuteRow(minute, {}, None)
        add(cast(dict[str, int], row.counts), counts)
        self._rows[minute] = row._replace(depth=None)
        self._last = minute
        add(self.totals, counts)

    def marked(self, mark: Mark) -> None:
        """Keep a mark if it is about the pace."""
        if mark.kind in PACE_MARKS:
            self._marks.append(mark)

    def recorded(self, since: datetime, until: datetime) -> Recorded:
        """Return what is on record of a period."""
        first, last = minute_of(since), _last_minute(until)
        rows = [self._rows[minute] for minute in sorted(self._rows) if minute <= last]
        before = sum(row.minute < first for row in rows)
        copies = [row._replace(counts=dict(row.counts)) for row in rows[max(0, before - 1) :]]
        last_before = {mark.kind: mark for mark in self._marks if mark.at < since}
        marks = [mark for mark in self._marks if mark.at >= since]
        marks = [*sorted(last_before.values(), key=lambda mark: mark.at), *marks]
        return Recorded(copies, marks, min(self._rows, default=None))

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
        #: Everything that was ever counted.
        self.totals: dict[str, int] = {}
        #: The row that was written last, as it is on the disk.
        self._row: MinuteRow | None = None
        self._unwritten: dict[int, dict[str, int]] = {}
        self._written: MinuteRow | None = None

    def load(self, db: apsw.Connection) -> None:
        """Go on where the last process ended."""
        for minute, counts in db.execute(SQL["all_rollups"]):
            row = MinuteRow(cast(int, minute), json_text.loads(cast(bytes, counts)), None)
            add(self.totals, row.counts)
        for (minute,) in db.execute(SQL["last_rollup"]):
            self._row = None if minute is None else _row(db, cast(int, minute))

    def count(self, at: datetime, counts: Counts) -> None:
        """Add to the minute of `at`, with the transaction that is being written."""
        add(self._unwritten.setdefault(minute_of(at), {}), counts)

    def write(self, db: apsw.Connection) -> None:
        """Write what was counted in this transaction."""
        row = self._row
        for minute, more in self._unwritten.items():
            if row is None or row.minute != minute:
                self._end(db, row, minute)
                row = _row(db, minute)
            counts = dict(row.counts)
            add(counts, more)
            row = row._replace(counts=counts)
            db.execute(SQL["put_rollup"], {"minute": minute, "counts": json_text.dumps(counts)})
        self._written = row

    def ended(self, *, durable: bool) -> None:
        """Note what became of the transaction."""
        if durable and self._unwritten:
            self._row = self._written
            for more in self._unwritten.values():
                add(self.totals, more)
        self._unwritten.clear()

    def _end(self, db: apsw.Connection, row: MinuteRow | None, then: int) -> None:
        """Keep what waited at the end of a minute: as much as before the first change after it."""
        if row is None:
            return
        depth = json_text.dumps(self.tell_depth())
        db.execute(SQL["end_rollup"], {"minute": row.minute, "depth": depth})
        hour = row.minute // _HOUR
        if then // _HOUR != hour:
            # Anew from its minutes: a clock that is set back can end an hour twice.
            counts: dict[str, int] = {}
            for (text,) in db.execute(SQL["rollups_of_hour"], {"hour": hour}).fetchall():
                add(counts, json_text.loads(cast(bytes, text)))
            values = {"hour": hour, "counts": json_text.dumps(counts), "depth": depth}
            db.execute(SQL["put_hour"], values)


def count_of(submission: Submission) -> Counts:
    """Return what counts a submission."""
    return accepted(submission.priority, submission.batches_total, len(submission.items))


def recorded(db: apsw.Connection, since: datetime, until: datetime, *, by_hour: bool) -> Recorded:
    """Read what is on record of a period."""
    minutes = {"first": minute_of(since), "last": _last_minute(until)}
    rows = [
        MinuteRow(
            cast(int, minute),
            json_text.loads(cast(bytes, counts)),
            None if depth is None else json_text.loads(cast(bytes, depth)),
        )
        for minute, counts, depth in db.execute(
            SQL["rollups_by_hour" if by_hour else "rollups"], minutes
        )
    ]
    ((first,),) = db.execute(SQL["first_rollup"]).fetchall()
    period = {"since": to_micros(since), "limit": MOST_MARKS}
    marks: list[Row] = []
    for kind in PACE_MARKS:
        marks += db.execute(SQL["pace_marks"], period | {"kind": kind.value})
        marks += db.execute(SQL["pace_mark_before"], period | {"kind": kind.value})
    return Recorded(rows, [_mark(row) for row in sorted(marks)], cast("int | None", first))


def forget(db: apsw.Connection, before: int) -> int:
    """Forget some hours that ended before, but for their totals; return how many."""
    values = {"before": before // 60_000_000, "limit": _PER_STEP}
    rows = db.execute(SQL["expired_hours"], values).fetchall()
    if rows:
        counts = dict(_row(db, _FORGOTTEN).counts)
        for _, text in rows:
            add(counts, json_text.loads(cast(bytes, text)))
        db.execute(SQL["put_rollup"], {"minute": _FORGOTTEN, "counts": json_text.dumps(counts)})
        for name in ("forget_rollups", "forget_hours"):
            db.execute(SQL[name], {"last": rows[-1][0]})
    return len(rows)


def oldest(db: apsw.Connection) -> datetime | None:
    """Return when the first hour that is kept was over."""
    ((hour,),) = db.execute(SQL["first_hour"]).fetchall()
    return None if hour is None else beginning((cast(int, hour) + 1) * _HOUR)


def _last_minute(until: datetime) -> int:
    return minute_of(until - timedelta(microseconds=1))


def _row(db: apsw.Connection, minute: int) -> MinuteRow:
    rows: Sequence[Row] = db.execute(SQL["rollup"], {"minute": minute}).fetchall()
    return MinuteRow(minute, json_text.loads(rows[0][0]) if rows else {}, None)


def _mark(row: Row) -> Mark:
    at, _, kind, before, after = row
    return Mark(to_datetime(at), MarkKind(kind), json_text.loads(before), json_text.loads(after))
