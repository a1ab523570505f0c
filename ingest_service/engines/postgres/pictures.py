"""The queue at one moment: everything that a snapshot shows, read in one transaction."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from ingest_service.clock import Clock
from ingest_service.domain.forecast import forecast
from ingest_service.domain.model import Priority, batch_ids
from ingest_service.domain.policy import Policy, QueueEntry
from ingest_service.domain.runs import Lines, Moment, joined_by, walked
from ingest_service.domain.slot_times import SlotModel, expected_end
from ingest_service.domain.snapshot import (
    FRONT,
    KEPT_SLOTS,
    BatchUnderWay,
    ClassTotals,
    Forecast,
    PendingRetry,
    Place,
    QueueSnapshot,
    TakenSlot,
    WorkerState,
)
from ingest_service.engines import Draft
from ingest_service.engines.options import EngineOptions
from ingest_service.engines.postgres.database import Database, Transaction, checked_id
from ingest_service.engines.postgres.slots import concurrent, entry_of, pace_of
from ingest_service.engines.postgres.sums import DatabaseSums
from ingest_service.errors import IngestionNotFound

#: A sequence after all others.
_LAST = 2**62
#: A worker that was seen in the last so many seconds is there.
SEEN_WITHIN = 30.0
#: For how many seconds a walk through everything that waits is good enough.
_WALK_LASTS = 1.0


class Pictures:
    """Takes pictures of the queue."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        options: EngineOptions,
        settle: float,
        latency: Callable[[], float | None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._options = options
        self._settle = settle
        self._latency = latency
        #: Whether nothing is taken any more.
        self.draining = False
        #: The forecasts of everything under the aged policy, what they are of, and since when.
        self._walked: tuple[object, float, dict[int, Forecast]] = (None, 0.0, {})

    def snapshot(self, of: str | Draft | None) -> QueueSnapshot:
        """Return the queue, with the place of an ingestion or of a newcomer."""
        with self._database.reading() as tx:
            row = tx.row("moment")
            durations = () if self._latency() is not None else tx.rows("durations")
            under_way = tx.rows("under_way_now")
            snapshot = self._picture(tx, row, of, self._duration(durations), under_way)
            if of is None:
                return snapshot._replace(taken=_taken(tx))
            joining = of.batches_total if isinstance(of, Draft) else 0
            entry, place = self._placed(tx, row, snapshot, of, under_way)
            if place is None:
                return snapshot
            tell = self._forecast(tx, row, snapshot, entry, joining)
        return snapshot._replace(place=place._replace(forecast=tell()))

    def lines(self) -> Lines:
        """Return everything that is ready, a line a class."""
        with self._database.reading() as tx:
            rows = tx.rows("lines")
        return _lines(rows)

    def _duration(self, durations: Sequence[Any]) -> float:
        latency = self._latency()
        if latency is not None:
            return latency
        return statistics.median(row.duration for row in durations) if durations else 0.0

    def _picture(
        self,
        tx: Transaction,
        row: Any,
        of: str | Draft | None,
        duration: float,
        under_way: Sequence[Any],
    ) -> QueueSnapshot:
        pace = pace_of(row, self._options, self._settle)
        # A newcomer to an empty queue fills it.
        fills = isinstance(of, Draft) and not any(row.ready)
        model = SlotModel(
            opens_at=pace.opens_at(row.now if fills else row.filled_at),
            interval=pace.interval,
            duration=duration,
            concurrent=concurrent(row, self._options),
            ends=tuple(_end_of(start, duration, row.now) for start in under_way),
        )
        heads = [entry_of(head) for head in tx.rows("heads", most=FRONT)]
        oldest = {each.priority: each.created_at for each in tx.rows("oldest")}
        return QueueSnapshot(
            now=row.now,
            at=row.at,
            rule=self._options.rule,
            pace=pace,
            model=model,
            slots=row.slots,
            totals={
                priority: ClassTotals(
                    row.batches[priority - 1],
                    row.items[priority - 1],
                    row.ingestions[priority - 1],
                    oldest[priority],
                )
                for priority in Priority
            },
            front=tuple(
                tuple(head for head in heads if head.priority is priority) for priority in Priority
            ),
            retries=tuple(
                PendingRetry(
                    retry.due,
                    entry_of(retry),
                )
                for retry in tx.rows("retries")
            ),
            in_flight=tuple(
                BatchUnderWay(
                    str(start.id), _batch_id(str(start.id), start.batch), start.items, start.attempt
                )
                for start in under_way
            ),
            unfinished=row.unfinished,
            worker=self._worker_state(tx),
        )

    def _worker_state(self, tx: Transaction) -> WorkerState:
        workers = tx.row("workers", seen_within=SEEN_WITHIN)
        return WorkerState(
            alive=workers.number > 0,
            stopping=self.draining,
            trouble=workers.trouble,
            upstream_trouble=workers.upstream_trouble,
            processes=workers.number,
        )

    def _placed(
        self,
        tx: Transaction,
        row: Any,
        snapshot: QueueSnapshot,
        of: str | Draft,
        under_way: Sequence[Any],
    ) -> tuple[QueueEntry, Place | None]:
        """Return the place of an ingestion but for its forecast, None if it is finished."""
        retrying = 0
        if isinstance(of, Draft):
            entry = QueueEntry(_LAST, of.priority, row.now, "", of.batches_total)
        else:
            known = tx.row("place", id=checked_id(of), retention=self._options.retention)
            if known is None:
                raise IngestionNotFound
            entry, retrying = entry_of(known), known.retrying
            if known.finished_at is not None:
                return entry, None
        return entry, Place(
            sequence=entry.sequence,
            priority=entry.priority,
            batches=entry.batches,
            retry_due=_retry_due(snapshot, entry) if retrying else None,
            under_way_until=_last_end(under_way, entry, snapshot),
            forecast=None,
        )

    def _forecast(
        self, tx: Transaction, row: Any, snapshot: QueueSnapshot, entry: QueueEntry, joining: int
    ) -> Callable[[], Forecast | None]:
        """Return what tells the forecast: after the transaction, if it takes a walk."""
        moment = Moment.of(snapshot)
        if moment.rule.policy is not Policy.AGED:
            found = forecast(moment, DatabaseSums(tx, row), snapshot.retries, entry, joining)
            return lambda: found
        current, now = (row.version, snapshot.model), self._clock.monotonic()
        of_what, walked_at, forecasts = self._walked
        if not joining and of_what == current and now < walked_at + _WALK_LASTS:
            return lambda: forecasts.get(entry.sequence)
        waiting = tx.rows("lines")

        def walk() -> Forecast | None:
            lines = joined_by(entry, _lines(waiting), joining)
            forecasts = walked(moment, lines, snapshot.retries)
            if not joining:
                self._walked = current, now, forecasts
            return forecasts.get(entry.sequence)

        return walk


def _lines(rows: Sequence[Any]) -> Lines:
    entries = [entry_of(row) for row in rows]
    return [[entry for entry in entries if entry.priority is priority] for priority in Priority]


def _taken(tx: Transaction) -> tuple[TakenSlot, ...]:
    return tuple(
        TakenSlot(
            row.at,
            row.settled_at,
            str(row.id),
            _batch_id(str(row.id), row.batch),
            Priority(row.priority),
            row.items,
            row.succeeded,
            row.failed,
            row.retried,
        )
        for row in reversed(tx.rows("taken_slots", most=KEPT_SLOTS))
    )


def _batch_id(ingestion_id: str, index: int) -> str:
    (batch_id,) = batch_ids(ingestion_id, range(index, index + 1))
    return batch_id


def _end_of(start: Any, duration: float, now: float) -> float:
    if start.ends_at is not None:
        return max(now, float(start.ends_at))
    return expected_end(start.started_at, duration, now)


def _last_end(under_way: Sequence[Any], entry: QueueEntry, snapshot: QueueSnapshot) -> float | None:
    ends = [
        _end_of(start, snapshot.model.duration, snapshot.now)
        for start in under_way
        if start.sequence == entry.sequence
    ]
    return max(ends, default=None)


def _retry_due(snapshot: QueueSnapshot, entry: QueueEntry) -> float | None:
    dues = [retry.due for retry in snapshot.retries if retry.entry.sequence == entry.sequence]
    return min(dues, default=None)
