"""What an operator changes: durable first, then in effect, then answered. One change at a time."""

from collections.abc import Callable
from dataclasses import replace

from ingest_service import logs
from ingest_service.domain import rollup
from ingest_service.domain.caller import Caller
from ingest_service.domain.ingestion import Ingestion, IngestionSnapshot
from ingest_service.domain.model import OutcomeWord, Priority
from ingest_service.domain.runs import Lines, Moment, as_if_moved, delays, last_starts
from ingest_service.domain.snapshot import QueueSnapshot
from ingest_service.engines import Move, OperatorState, visible
from ingest_service.engines.audit import MarkKind
from ingest_service.engines.embedded.core import Core, finished, log_finished
from ingest_service.engines.embedded.intake import check_quota, check_room
from ingest_service.engines.embedded.journal import (
    Cancelled,
    Change,
    Counted,
    Deleted,
    Moved,
    OperatorChanged,
    Reopened,
)
from ingest_service.engines.embedded.reading import EmbeddedReading
from ingest_service.errors import Conflict, IngestionNotFound, StorageUnavailable

_NO_BATCHES = range(0)


class EmbeddedControl:
    """See `Control`."""

    def __init__(self, core: Core, reading: EmbeddedReading) -> None:
        self._core = core
        self._reading = reading

    def cancel(self, ingestion_id: str, caller: Caller) -> IngestionSnapshot:
        """Give up what has not been started, as one change with the end if that is one."""
        with self._core.changes:
            snapshot = self._visible(ingestion_id, caller)
            ingestion = self._unfinished(ingestion_id)
            if ingestion is None:
                if snapshot.counts.outcome is OutcomeWord.CANCELLED:
                    return snapshot
                raise Conflict(f"It is finished: {snapshot.counts.outcome}.")
            if not ingestion.cancelled:
                self._cancel(ingestion, caller)
        self._core.await_start(ingestion_id)
        return self._reading.find(ingestion_id, _NO_BATCHES)

    def move(
        self, ingestion_id: str, priority: Priority, caller: Caller, *, dry_run: bool = False
    ) -> Move:
        """Give what is left of an ingestion another class, or only tell what that would do."""
        with self._core.changes:
            snapshot = self._visible(ingestion_id, caller)
            ingestion = self._unfinished(ingestion_id)
            if ingestion is None:
                raise Conflict(f"It is finished: {snapshot.counts.outcome}.")
            before, lines_before = self._expected(ingestion_id)
            if not dry_run:
                if priority is not ingestion.priority:
                    self._move(ingestion, priority, caller)
                after, lines_after = self._expected(ingestion_id)
        # Walks through everything, so without the locks.
        waited = lines_before()
        if dry_run:
            after, waits = as_if_moved(before, waited, priority)
        else:
            self._core.wake()
            waits = lines_after()
        ends_before, ends_after = _last_starts(before, waited), _last_starts(after, waits)
        later = delays(ends_before, ends_after, ingestion.sequence)
        return Move(snapshot.priority, before, after, len(later), max(later, default=0.0))

    def reopen(self, ingestion_id: str, caller: Caller) -> int:
        """Queue the failed items once more, in the old place."""
        core = self._core
        with core.changes:
            snapshot = self._visible(ingestion_id, caller)
            ingestion = self._unfinished(ingestion_id) or self._finished(ingestion_id)
            owner = ingestion.submission.submitted_by
            # What ended by itself after all is called by its outcome.
            stopping = ingestion.cancelled and ingestion.finished_at is None
            if stopping or snapshot.counts.outcome is OutcomeWord.CANCELLED:
                raise Conflict("A cancelled ingestion is not tried again.")
            failed = ingestion.failed_batches(core.journal.start_counts(ingestion_id))
            items = sum(len(resend.offsets) for resend in failed)
            if not items:
                return 0
            # It may be waiting already.
            more = 0 if ingestion.counts.queued else 1
            with core.lock:
                if owner == caller.key:
                    check_quota(core, caller, items)
                check_room(core, items, more)
                core.state.reserve(items, owner, more)
                core.state.begin_reopening(ingestion)
            try:
                at = core.clock.now()
                what = {"failed": items}, {"queued": items}
                core.journal.record(
                    Reopened(ingestion.sequence, ingestion_id, at, failed),
                    Counted(at, rollup.requeued(ingestion.priority, len(failed), items)),
                    core.mark(MarkKind.RETRY, caller, ingestion_id, *what),
                )
                with core.lock:
                    since, now = core.since(ingestion.submission.created_at), core.clock.monotonic()
                    core.state.reopen(ingestion, failed, since=since, filled_at=now)
            finally:
                with core.lock:
                    core.state.release(items, owner, more)
                    core.state.end_reopening()
        core.wake()
        logs.event("retried", ingestion_id=ingestion_id, items=items)
        return items

    def delete(self, ingestion_id: str, caller: Caller) -> IngestionSnapshot:
        """Forget something finished, in the journal and in memory."""
        core = self._core
        with core.changes:
            snapshot = self._visible(ingestion_id, caller)
            if snapshot.finished_at is None:
                raise Conflict("It is not finished; cancel it first.")
            if core.journal.find(ingestion_id, _NO_BATCHES) is None:
                raise StorageUnavailable("Its end is not on record yet.")
            what = {"items": snapshot.counts.total, "outcome": snapshot.counts.outcome}, None
            core.journal.record(
                Deleted(snapshot.sequence, ingestion_id),
                core.mark(MarkKind.DELETE, caller, ingestion_id, *what),
            )
            with core.lock:
                core.state.forget(ingestion_id)
        logs.event("deleted", ingestion_id=ingestion_id, items=snapshot.counts.total)
        return snapshot

    def pause(self, reason: str | None, caller: Caller) -> None:
        """Start nothing from now on because of `reason`; None goes on."""
        kind = MarkKind.RESUME if reason is None else MarkKind.PAUSE
        changed = self._change_operator(
            kind,
            caller,
            lambda operator: replace(operator, paused=reason),
            lambda operator: operator.paused,
        )
        self._core.await_start()
        if changed:
            logs.event("resumed" if reason is None else "paused", reason=reason)

    def set_interval(self, seconds: float, caller: Caller) -> None:
        """Change the pace; with the configured one beside it, whoever changes that means it."""
        configured = self._core.options.interval
        changed = self._change_operator(
            MarkKind.INTERVAL,
            caller,
            lambda operator: replace(operator, interval=seconds, configured_interval=configured),
            lambda operator: configured if operator.interval is None else operator.interval,
        )
        if changed:
            logs.event("interval_changed", seconds=seconds)

    def _visible(self, ingestion_id: str, caller: Caller) -> IngestionSnapshot:
        return visible(self._reading.find(ingestion_id, _NO_BATCHES), caller)

    def _cancel(self, ingestion: Ingestion, caller: Caller) -> None:
        core, at, queued = self._core, self._core.clock.now(), ingestion.counts.queued
        with core.lock:
            batches = ingestion.batches_left + len(core.state.retries_of(ingestion))
        what = {"queued": queued}, {"cancelled": queued}
        changes: list[Change] = [
            Cancelled(ingestion.sequence, ingestion.ingestion_id, at),
            Counted(at, rollup.cancelled(ingestion.priority, batches, queued)),
            core.mark(MarkKind.CANCEL, caller, ingestion.ingestion_id, *what),
        ]
        states = ingestion.states_if_cancelled()
        if states is not None:
            changes.append(finished(ingestion, states, at))
        core.journal.record(*changes)
        with core.lock:
            core.state.cancel(ingestion, at)
            core.expected.pop(ingestion.sequence, None)
        core.wake()
        logs.event(
            "cancelled", ingestion_id=ingestion.ingestion_id, items=ingestion.counts.cancelled
        )
        log_finished(ingestion)

    def _move(self, ingestion: Ingestion, priority: Priority, caller: Caller) -> None:
        core, ingestion_id = self._core, ingestion.ingestion_id
        what = {"priority": ingestion.priority.name}, {"priority": priority.name}
        mark = core.mark(MarkKind.MOVE, caller, ingestion_id, *what)
        # The minute begins with what waited until now.
        begun = Counted(core.clock.now(), {})
        core.journal.record(begun, Moved(ingestion.sequence, ingestion_id, priority), mark)
        with core.lock:
            core.state.move(ingestion, priority)
        logs.event("moved", ingestion_id=ingestion_id, priority=priority.name)

    def _change_operator(
        self,
        kind: MarkKind,
        caller: Caller,
        change: Callable[[OperatorState], OperatorState],
        told: Callable[[OperatorState], object],
    ) -> bool:
        """Return whether anything is different now; if not, nothing is recorded."""
        core = self._core
        with core.changes:
            before = core.state.operator
            after = change(before)
            if told(after) == told(before):
                return False
            mark = core.mark(kind, caller, None, told(before), told(after))
            core.journal.record(OperatorChanged(after), mark)
            with core.lock:
                core.set_operator(after)
        core.wake()
        return True

    def _unfinished(self, ingestion_id: str) -> Ingestion | None:
        with self._core.lock:
            ingestion = self._core.remembered(ingestion_id)
        if ingestion is None or ingestion.finished_at is not None:
            return None
        return ingestion

    def _finished(self, ingestion_id: str) -> Ingestion:
        with self._core.lock:
            ingestion = self._core.remembered(ingestion_id)
        ingestion = ingestion or self._core.journal.load(ingestion_id)
        if ingestion is None:
            raise IngestionNotFound
        return ingestion

    def _expected(self, ingestion_id: str) -> tuple[QueueSnapshot, Callable[[], Lines]]:
        """Return what an ingestion can expect, and what tells everything that waits."""
        snapshot = self._reading.snapshot(ingestion_id)
        with self._core.lock:
            return snapshot, self._core.state.index.lines()


def _last_starts(snapshot: QueueSnapshot, lines: Lines) -> dict[int, float]:
    return last_starts(Moment.of(snapshot), lines, snapshot.retries)
