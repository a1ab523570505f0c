"""What an operator changes: one short transaction each, `pace` locked first."""

from collections.abc import Sequence
from typing import Any

from ingest_service import logs
from ingest_service.clock import Clock
from ingest_service.domain.ingestion import IngestionSnapshot
from ingest_service.domain.model import ItemState, OutcomeWord, Priority
from ingest_service.domain.runs import Lines, Moment, delays, last_starts
from ingest_service.domain.snapshot import QueueSnapshot
from ingest_service.engines import MarkKind, Move
from ingest_service.engines.offsets import pack_offsets
from ingest_service.engines.options import EngineOptions
from ingest_service.engines.postgres.database import Database, Transaction
from ingest_service.engines.postgres.intake import PostgresIntake
from ingest_service.engines.postgres.marks import add_mark
from ingest_service.engines.postgres.pictures import Pictures
from ingest_service.engines.postgres.reading import snapshot_of
from ingest_service.engines.postgres.settling import counts_of, finish_if_final, give_back
from ingest_service.engines.postgres.slots import FENCE, Stage, pace_of
from ingest_service.errors import Conflict, IngestionNotFound

#: How often is looked whether a confirmed call was made, in seconds.
_LOOK = 0.005


class PostgresControl:
    """See `Control`."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        options: EngineOptions,
        pictures: Pictures,
        intake: PostgresIntake,
    ) -> None:
        self._database = database
        self._clock = clock
        self._options = options
        self._pictures = pictures
        self._intake = intake

    def cancel(self, ingestion_id: str) -> IngestionSnapshot:
        """Give up what has not been started; a slot that was taken for it is given back."""
        with self._database.transaction() as tx:
            pace = tx.row("lock_pace")
            row = self._find(tx, ingestion_id)
            outcome = counts_of(row).outcome
            if outcome is not None and outcome is not OutcomeWord.CANCELLED:
                raise Conflict(f"It is finished: {outcome}.")
            if not row.cancelled:
                row = self._cancel(tx, pace, row)
        self._await_call(row.sequence)
        return snapshot_of(row)

    def move(self, ingestion_id: str, priority: Priority) -> Move:
        """Give what is left of an ingestion another class."""
        before, lines_before = self._expected(ingestion_id)
        with self._database.transaction() as tx:
            tx.row("lock_pace")
            row = self._find(tx, ingestion_id)
            old = Priority(row.priority)
            if row.finished_at is not None:
                raise Conflict(f"It is finished: {counts_of(row).outcome}.")
            if priority is not old:
                tx.run("move", sequence=row.sequence, priority=int(priority))
                mark = {"ingestion_id": ingestion_id}
                add_mark(
                    tx,
                    MarkKind.MOVE,
                    mark | {"priority": old.name},
                    mark | {"priority": priority.name},
                )
                tx.run("wake")
        if priority is not old:
            logs.event("moved", ingestion_id=ingestion_id, priority=priority.name)
        after, lines_after = self._expected(ingestion_id)
        later = delays(
            last_starts(Moment.of(before), lines_before, before.retries),
            last_starts(Moment.of(after), lines_after, after.retries),
            row.sequence,
        )
        return Move(old, before, after, len(later), max(later, default=0.0))

    def reopen(self, ingestion_id: str) -> int:
        """Queue the failed items once more, in the old place."""
        with self._database.transaction() as tx:
            pace = tx.row("lock_pace")
            row = self._find(tx, ingestion_id)
            # What ended by itself after all is called by its outcome.
            stopping = row.cancelled and row.finished_at is None
            if stopping or counts_of(row).outcome is OutcomeWord.CANCELLED:
                raise Conflict("A cancelled ingestion is not tried again.")
            failed = tx.rows("failed_batches", sequence=row.sequence)
            offsets = [_failed(batch.states) for batch in failed]
            items = sum(map(len, offsets))
            if not items:
                return 0
            self._reopen(tx, pace, row, failed, offsets)
            tx.run("count_now")
            self._intake.check_counted(tx)
        logs.event("retried", ingestion_id=ingestion_id, items=items)
        return items

    def pause(self, reason: str | None) -> None:
        """Start nothing from now on because of `reason`; None goes on."""
        with self._database.transaction() as tx:
            before = tx.row("lock_pace").paused
            tx.run("pause", reason=reason)
            add_mark(tx, MarkKind.RESUME if reason is None else MarkKind.PAUSE, before, reason)
            tx.run("wake")
        self._await_call()
        logs.event("resumed" if reason is None else "paused", reason=reason)

    def set_interval(self, seconds: float) -> None:
        """Change the pace; with the configured one beside it, whoever changes that means it."""
        with self._database.transaction() as tx:
            before = pace_of(tx.row("lock_pace"), self._options, 0.0).interval
            tx.run("set_interval", interval=seconds, configured=self._options.interval)
            add_mark(tx, MarkKind.INTERVAL, before, seconds)
            tx.run("wake")
        logs.event("interval_changed", seconds=seconds)

    def check(self) -> None:
        """Write nothing, where something could be written."""
        with self._database.transaction() as tx:
            tx.run("probe")

    def _find(self, tx: Transaction, ingestion_id: str) -> Any:
        values = {"id": ingestion_id, "retention": self._options.retention}
        row = tx.row("find_for_change", **values)
        if row is None:
            raise IngestionNotFound
        return row

    def _cancel(self, tx: Transaction, pace: Any, row: Any) -> Any:
        if pace.stage == Stage.TAKEN:
            taken = tx.row("stage")
            if taken.sequence == row.sequence:
                give_back(tx, taken.start)
        tx.run("give_up_retries", sequence=row.sequence)
        tx.run("forget_retries", sequence=row.sequence)
        after = tx.row("cancel", sequence=row.sequence)
        finish_if_final(tx, after, pace.at)
        logs.event("cancelled", ingestion_id=str(row.id), items=after.given_up)
        return tx.row("lock_ingestion", sequence=row.sequence)

    def _reopen(
        self,
        tx: Transaction,
        pace: Any,
        row: Any,
        failed: Sequence[Any],
        offsets: Sequence[Sequence[int]],
    ) -> None:
        tx.run(
            "reopen_batches",
            sequence=row.sequence,
            batches=[batch.batch for batch in failed],
            # One start number is the decision to do it, the next one does it.
            start_nos=[batch.starts + 2 for batch in failed],
            offsets=[pack_offsets(of_batch) for of_batch in offsets],
            due=pace.now,
        )
        tx.run(
            "reopen",
            sequence=row.sequence,
            items=sum(map(len, offsets)),
            batches=len(failed),
            filled_at=pace.now,
        )

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

    def _expected(self, ingestion_id: str) -> tuple[QueueSnapshot, Lines]:
        """Return what an ingestion can expect, and everything that waits."""
        return self._pictures.snapshot(ingestion_id), self._pictures.lines()


def _failed(states: bytes) -> list[int]:
    return [offset for offset, state in enumerate(states) if state == ItemState.FAILED]
