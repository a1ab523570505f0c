"""Taking responsibility for work: durable first, then visible, then runnable."""

import math
from concurrent.futures import Future

from ingest_service import logs
from ingest_service.domain.caller import Caller
from ingest_service.domain.forecast import forecast
from ingest_service.domain.ids import fresh_id
from ingest_service.domain.ingestion import Ingestion, Submission
from ingest_service.domain.policy import Policy
from ingest_service.domain.room import Lacking, Waiting, opens_in
from ingest_service.domain.runs import Moment
from ingest_service.engines import Acceptance, Draft, IdempotencyKey
from ingest_service.engines.embedded.core import Core
from ingest_service.errors import QueueFull, QuotaFull

#: The end of one acceptance in so many seconds is foretold, and no more than so many are kept:
#: that says as much of the estimates, and costs nothing.
_BETWEEN_FORECASTS = 1.0
_MOST_EXPECTED = 10_000


class EmbeddedIntake:
    """See `Intake`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        #: When the next end is foretold (monotonic).
        self._expects_at = -math.inf

    def accept(self, draft: Draft, key: IdempotencyKey | None) -> Acceptance:
        """Reserve room, record, and show it from the journal's thread once it is durable."""
        core = self._core
        core.check_not_draining()
        try:
            with core.lock:
                self._check_room(draft)
                core.state.reserve(len(draft.items), draft.caller.key)
                sequence = next(core.sequence)
        except (QueueFull, QuotaFull):
            # What was accepted before is answered again, full or not.
            earlier = key and core.journal.find_key(key, core.clock.now())
            if not earlier:
                raise
            return _answered(earlier)
        submission = Submission(
            ingestion_id=fresh_id(),
            sequence=sequence,
            priority=draft.priority,
            items=draft.items,
            batch_size=draft.batch_size,
            created_at=core.clock.now(),
            submitted_by=draft.caller.key,
            request_id=draft.caller.request_id,
        )
        return self._record(submission, key)

    def look(self, draft: Draft) -> None:
        """Check the room, and take none."""
        self._core.check_not_draining()
        with self._core.lock:
            self._check_room(draft)

    def _record(self, submission: Submission, key: IdempotencyKey | None) -> Acceptance:
        items, owner, core = len(submission.items), submission.submitted_by, self._core

        def release(durable: "Future[str]") -> None:
            if durable.exception() or durable.result() != submission.ingestion_id:
                with core.lock:
                    core.state.release(items, owner)

        try:
            durable = core.journal.accept(submission, key, lambda: self._show(submission))
        except BaseException:
            with core.lock:
                core.state.release(items, owner)
            raise
        durable.add_done_callback(release)
        return Acceptance(submission.ingestion_id, durable)

    def _show(self, submission: Submission) -> None:
        core, now = self._core, self._core.clock.monotonic()
        with core.lock:
            core.state.release(len(submission.items), submission.submitted_by)
            ingestion = Ingestion.of(submission)
            fills = core.state.add(ingestion, since=now, filled_at=now)
            if now >= self._expects_at:
                self._expects_at = now + _BETWEEN_FORECASTS
                self._expect(ingestion, now)
        if fills:
            core.wake()
        logs.event(
            "accepted",
            ingestion_id=submission.ingestion_id,
            kind=submission.kind,
            priority=submission.priority.name,
            items=len(submission.items),
        )

    def _expect(self, ingestion: Ingestion, now: float) -> None:
        """Note when it will end, to be held against when it did; the lock is held."""
        core, rule = self._core, self._core.options.rule
        # Under the aged policy that would be a walk through everything.
        if rule.policy is Policy.AGED or len(core.expected) >= _MOST_EXPECTED:
            return
        state = core.state
        moment = Moment(now, rule, core.slot_model(now, state.filled_at), state.slots)
        ahead = forecast(moment, state.index, state.retries(), state.entry(ingestion, now), 0)
        if ahead is not None:
            core.expected[ingestion.sequence] = ahead.finish_at

    def _check_room(self, draft: Draft) -> None:
        check_quota(self._core, draft.caller, len(draft.items))
        check_room(self._core, len(draft.items))


def check_quota(core: Core, caller: Caller, items: int) -> None:
    """Raise `QuotaFull` if so many more are too many for a key; for whoever holds the lock."""
    key, limit = caller.key, caller.max_queued_items
    if key is None or limit is None:
        return
    too_many = core.state.owned.waiting(key) + items - limit
    if items > limit:
        raise QuotaFull(limit, None)
    if too_many > 0:
        lacking = Lacking(too_many, 0, core.state.slots_until_gone(key, too_many))
        raise QuotaFull(limit, _opens_in(core, core.state.waiting_of_owner(key), lacking))


def check_room(core: Core, items: int, ingestions: int = 1) -> None:
    """Raise `QueueFull` if there is no room for so many more; for whoever holds the lock."""
    state, options = core.state, core.options
    too_many_items = max(0, state.queued_items + items - options.max_queued_items)
    too_many = max(0, state.waiting + ingestions - options.max_ingestions) if ingestions else 0
    if not (too_many_items or too_many):
        return
    slots = state.index.slots_until_room(too_many_items, too_many)
    lacking = Lacking(too_many_items, too_many, slots)
    raise QueueFull(_opens_in(core, state.waiting_of, lacking))


def _opens_in(core: Core, waiting: Waiting, lacking: Lacking) -> float:
    state, now = core.state, core.clock.monotonic()
    moment = Moment(now, core.options.rule, core.slot_model(now, state.filled_at), state.slots)
    return opens_in(moment, state.index.front(), state.retries(), waiting, lacking)


def _answered(ingestion_id: str) -> Acceptance:
    durable: Future[str] = Future()
    durable.set_result(ingestion_id)
    return Acceptance("", durable)
