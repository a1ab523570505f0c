"""Taking responsibility for work: durable first, then visible, then runnable."""

import math
from concurrent.futures import Future

from ingest_service import logs
from ingest_service.domain.ingestion import Ingestion, Submission
from ingest_service.domain.model import new_ingestion_id
from ingest_service.engines import Acceptance, Draft, IdempotencyKey
from ingest_service.engines.embedded.core import Core
from ingest_service.errors import QueueFull


class EmbeddedIntake:
    """See `Intake`."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def accept(self, draft: Draft, key: IdempotencyKey | None) -> Acceptance:
        """Reserve room, record, and show it from the journal's thread once it is durable."""
        core = self._core
        core.check_not_draining()
        try:
            with core.lock:
                self._check_room(draft)
                core.state.reserved += len(draft.items)
                sequence = next(core.sequence)
        except QueueFull:
            # What was accepted before is answered again, full or not.
            earlier = key and core.journal.find_key(key, core.clock.now())
            if not earlier:
                raise
            return _answered(earlier)
        submission = Submission(
            ingestion_id=new_ingestion_id(),
            sequence=sequence,
            priority=draft.priority,
            items=draft.items,
            batch_size=draft.batch_size,
            created_at=core.clock.now(),
        )
        return self._record(submission, key)

    def look(self, draft: Draft) -> None:
        """Check the room, and take none."""
        self._core.check_not_draining()
        with self._core.lock:
            self._check_room(draft)

    def _record(self, submission: Submission, key: IdempotencyKey | None) -> Acceptance:
        items, core = len(submission.items), self._core

        def release(durable: "Future[str]") -> None:
            if durable.exception() or durable.result() != submission.ingestion_id:
                with core.lock:
                    core.state.reserved -= items

        try:
            durable = core.journal.accept(submission, key, lambda: self._show(submission))
        except BaseException:
            with core.lock:
                core.state.reserved -= items
            raise
        durable.add_done_callback(release)
        return Acceptance(submission.ingestion_id, durable)

    def _show(self, submission: Submission) -> None:
        core, now = self._core, self._core.clock.monotonic()
        with core.lock:
            core.state.reserved -= len(submission.items)
            fills = core.state.add(Ingestion.of(submission), since=now, filled_at=now)
        if fills:
            core.wake()
        logs.event(
            "accepted",
            ingestion_id=submission.ingestion_id,
            kind=submission.kind,
            priority=submission.priority.name,
            items=len(submission.items),
        )

    def _check_room(self, draft: Draft) -> None:
        check_room(self._core, len(draft.items))


def check_room(core: Core, items: int) -> None:
    """Raise `QueueFull` if there is no room for so many; for whoever holds the lock."""
    state = core.state
    excess = state.queued_items + items - core.options.max_queued_items
    if excess <= 0:
        return
    slots, now = state.slots_until_room(excess), core.clock.monotonic()
    opens_at = max(now, state.pace.opens_at(state.filled_at))
    wait = opens_at - now + max(0, slots - 1) * state.pace.interval
    raise QueueFull(wait if math.isfinite(wait) else math.inf)


def _answered(ingestion_id: str) -> Acceptance:
    durable: Future[str] = Future()
    durable.set_result(ingestion_id)
    return Acceptance("", durable)
