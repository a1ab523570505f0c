"""What an operator changes: one short transaction each, `pace` locked first."""

from typing import Any

import psycopg

from ingest_service import logs
from ingest_service.clock import Clock
from ingest_service.domain import rollup
from ingest_service.domain.caller import ANYBODY, Caller
from ingest_service.domain.ingestion import IngestionSnapshot
from ingest_service.domain.model import OutcomeWord, Priority
from ingest_service.domain.runs import Lines, Moment, as_if_moved, delays, last_starts
from ingest_service.domain.snapshot import QueueSnapshot
from ingest_service.engines import Move
from ingest_service.engines.audit import MarkKind
from ingest_service.engines.options import EngineOptions
from ingest_service.engines.postgres.database import Database, Transaction, checked_id
from ingest_service.engines.postgres.marks import add_mark
from ingest_service.engines.postgres.pictures import Pictures
from ingest_service.engines.postgres.reading import snapshot_of
from ingest_service.engines.postgres.rollups import count
from ingest_service.engines.postgres.room import QUEUE_FULL, QUOTA_FULL, Room
from ingest_service.engines.postgres.settling import counts_of, finish_if_final, give_back
from ingest_service.engines.postgres.slots import FENCE, Stage, pace_of
from ingest_service.errors import Conflict, IngestionNotFound, QueueFull

#: How often is looked whether a confirmed call was made, in seconds.
_LOOK = 0.005


class _Full(Exception):
    """There is no room for so many items; nothing has happened."""

    def __init__(self, caller: Caller, items: int) -> None:
        super().__init__()
        self.caller = caller
        self.items = items


class PostgresControl:
    """See `Control`."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        options: EngineOptions,
        pictures: Pictures,
        room: Room,
    ) -> None:
        self._database = database
        self._clock = clock
        self._options = options
        self._pictures = pictures
        self._room = room

    def cancel(self, ingestion_id: str, caller: Caller) -> IngestionSnapshot:
        """Give up what has not been started; a slot that was taken for it is given back."""
        with self._database.transaction() as tx:
            pace = tx.row("lock_pace")
            row = self._find(tx, ingestion_id, caller)
            outcome = counts_of(row).outcome
            if outcome is not None and outcome is not OutcomeWord.CANCELLED:
                raise Conflict(f"It is finished: {outcome}.")
            if not row.cancelled:
                row = self._cancel(tx, pace, row, caller)
        self._await_call(row.sequence)
        return snapshot_of(row)

    def move(
        self, ingestion_id: str, priority: Priority, caller: Caller, *, dry_run: bool = False
    ) -> Move:
        """Give what is left of an ingestion another class, or only tell what that would do."""
        before, waited = self._expected(ingestion_id, caller)
        if dry_run:
            place = before.place
            if place is None:
                raise Conflict("It is finished.")  # a moment ago
            old, sequence = place.priority, place.sequence
            after, waits = as_if_moved(before, waited, priority)
        else:
            old, sequence = self._move(ingestion_id, priority, caller)
            after, waits = self._expected(ingestion_id, caller, finished=True)
        later = delays(
            last_starts(Moment.of(before), waited, before.retries),
            last_starts(Moment.of(after), waits, after.retries),
            sequence,
        )
        return Move(old, before, after, len(later), max(later, default=0.0))

    def reopen(self, ingestion_id: str, caller: Caller) -> int:
        """Queue the failed items once more, in the old place."""
        try:
            items = self._reopen(ingestion_id, caller)
        except _Full as full:
            self._room.check(full.caller, full.items)
            # It was full a moment ago.
            raise QueueFull(0.0) from None
        if items:
            logs.event("retried", ingestion_id=ingestion_id, items=items)
        return items

    def delete(self, ingestion_id: str, caller: Caller) -> IngestionSnapshot:
        """Forget something finished but for its starts, and that it was submitted."""
        with self._database.transaction() as tx:
            tx.row("lock_pace")
            row = self._find(tx, ingestion_id, caller)
            counts = counts_of(row)
            if row.finished_at is None:
                raise Conflict("It is not finished; cancel it first.")
            for what in ("outcomes", "batches", "content"):
                tx.run(f"delete_{what}", sequence=row.sequence)
            tx.run("delete_key", id=ingestion_id)
            tx.run("delete_ingestion", sequence=row.sequence)
            before = {"items": row.total, "outcome": counts.outcome}
            add_mark(tx, MarkKind.DELETE, before, None, caller, ingestion_id)
        logs.event("deleted", ingestion_id=ingestion_id, items=row.total)
        return snapshot_of(row)

    def pause(self, reason: str | None, caller: Caller) -> None:
        """Start nothing from now on because of `reason`; None goes on."""
        kind = MarkKind.RESUME if reason is None else MarkKind.PAUSE
        with self._database.transaction() as tx:
            before = tx.row("lock_pace").paused
            if reason != before:
                tx.run("pause", reason=reason)
                add_mark(tx, kind, before, reason, caller)
                tx.run("wake")
        self._await_call()
        if reason != before:
            logs.event("resumed" if reason is None else "paused", reason=reason)

    def set_interval(self, seconds: float, caller: Caller) -> None:
        """Change the pace; with the configured one beside it, whoever changes that means it."""
        with self._database.transaction() as tx:
            before = pace_of(tx.row("lock_pace"), self._options, 0.0).interval
            if seconds != before:
                tx.run("set_interval", interval=seconds, configured=self._options.interval)
                add_mark(tx, MarkKind.INTERVAL, before, seconds, caller)
                tx.run("wake")
        if seconds != before:
            logs.event("interval_changed", seconds=seconds)

    def _find(self, tx: Transaction, ingestion_id: str, caller: Caller) -> Any:
        values = {"id": checked_id(ingestion_id), "retention": self._options.retention}
        row = tx.row("find_for_change", **values)
        if row is None or not caller.sees(row.submitted_by):
            raise IngestionNotFound
        return row

    def _move(self, ingestion_id: str, priority: Priority, caller: Caller) -> tuple[Priority, int]:
        with self._database.transaction() as tx:
            tx.row("lock_pace")
            row = self._unfinished(tx, ingestion_id, caller)
            old = Priority(row.priority)
            if priority is not old:
                tx.run("move", sequence=row.sequence, priority=int(priority))
                count(tx, {})
                what = {"priority": old.name}, {"priority": priority.name}
                add_mark(tx, MarkKind.MOVE, *what, caller, ingestion_id)
                tx.run("wake")
        if priority is not old:
            logs.event("moved", ingestion_id=ingestion_id, priority=priority.name)
        return old, row.sequence

    def _unfinished(self, tx: Transaction, ingestion_id: str, caller: Caller) -> Any:
        row = self._find(tx, ingestion_id, caller)
        if row.finished_at is not None:
            raise Conflict(f"It is finished: {counts_of(row).outcome}.")
        return row

    def _cancel(self, tx: Transaction, pace: Any, row: Any, caller: Caller) -> Any:
        if pace.stage == Stage.TAKEN:
            taken = tx.row("stage")
            if taken.sequence == row.sequence:
                give_back(tx, taken.start)
        tx.run("give_up_retries", sequence=row.sequence)
        retries = tx.run("forget_retries", sequence=row.sequence)
        before = tx.row("lock_ingestion", sequence=row.sequence)
        queued = before.queued
        # Those in line are among what is left.
        batches = before.left_ + retries - before.lined
        after = tx.row("cancel", sequence=row.sequence)
        count(tx, rollup.cancelled(Priority(before.priority), batches, queued))
        what = {"queued": queued}, {"cancelled": queued}
        add_mark(tx, MarkKind.CANCEL, *what, caller, str(row.id))
        finish_if_final(tx, after, pace.at)
        logs.event("cancelled", ingestion_id=str(row.id), items=after.given_up)
        return tx.row("lock_ingestion", sequence=row.sequence)

    def _reopen(self, ingestion_id: str, caller: Caller) -> int:
        with self._database.transaction() as tx:
            now = tx.row("lock_pace").now
            row = self._find(tx, ingestion_id, caller)
            # What ended by itself after all is called by its outcome.
            stopping = row.cancelled and row.finished_at is None
            if stopping or counts_of(row).outcome is OutcomeWord.CANCELLED:
                raise Conflict("A cancelled ingestion is not tried again.")
            # Which items these are is found there: here it would take long, and hold up everybody.
            failed = tx.row("reopen_batches", sequence=row.sequence, due=now)
            batches, items = failed.batches, int(failed.items)
            if not items:
                return 0
            tx.run("reopen", sequence=row.sequence, items=items, batches=batches, filled_at=now)
            count(tx, rollup.requeued(Priority(row.priority), batches, items))
            what = {"failed": items}, {"queued": items}
            add_mark(tx, MarkKind.RETRY, *what, caller, ingestion_id)
            # Another's quota is not touched by who opens its work again.
            payer = caller if row.submitted_by == caller.key else ANYBODY
            try:
                self._room.enforce(tx, payer)
            except psycopg.Error as error:
                if error.sqlstate in (QUEUE_FULL, QUOTA_FULL):
                    raise _Full(payer, items) from None
                raise
        return items

    def _await_call(self, sequence: int | None = None) -> None:
        """Wait until no batch (of one ingestion) is between its confirmation and the call.

        After the answer to whoever stops something, nothing of it may be started.
        """
        while True:
            with self._database.transaction() as tx:
                row = tx.row("stage")
            of_it = sequence in (None, row.sequence)
            if row.stage != Stage.CONFIRMED or not of_it or row.now > row.last_at + FENCE:
                return
            self._clock.sleep(_LOOK)

    def _expected(
        self, ingestion_id: str, caller: Caller, *, finished: bool = False
    ) -> tuple[QueueSnapshot, Lines]:
        """Return what an ingestion can expect, and everything that waits."""
        with self._database.transaction() as tx:
            (self._find if finished else self._unfinished)(tx, ingestion_id, caller)
        return self._pictures.snapshot(ingestion_id), self._pictures.lines()
