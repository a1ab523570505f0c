"""Why an ingestion waits, and until when: a pure function of a snapshot."""

import math
from typing import NamedTuple

from ingest_service.domain.model import Priority, QueueState, WaitCode
from ingest_service.domain.runs import next_served
from ingest_service.domain.snapshot import Place, QueueSnapshot

#: Why nothing is sent because of the upstream: for the operator, and for who waits.
_ASKED = "the upstream asked for it"
_LOST = "the upstream cannot be reached"
_HELD = {
    _ASKED: "The upstream asked to be left alone.",
    _LOST: "The upstream is not there.",
}


class WaitReason(NamedTuple):
    """The one reason why an ingestion is not finished yet."""

    code: WaitCode
    message: str
    #: Monotonic instant at which that ends, None if nobody knows.
    until: float | None


class Standstill(NamedTuple):
    """What the queue as a whole does, and why."""

    state: QueueState
    reason: str | None = None
    #: Monotonic instant at which that ends, None if nobody knows.
    until: float | None = None


_RUNNING = Standstill(QueueState.RUNNING)


def standstill(snapshot: QueueSnapshot) -> Standstill:
    """Return whether nothing is started at present, and why; one place for all who tell it."""
    pace = snapshot.pace
    if pace.paused is not None:
        return Standstill(QueueState.PAUSED, pace.paused)
    if pace.closed_until > snapshot.now:
        asked = pace.held_until >= pace.probe_at
        return Standstill(QueueState.HELD, _ASKED if asked else _LOST, pace.closed_until)
    return _RUNNING


def wait_reason(snapshot: QueueSnapshot, place: Place) -> WaitReason:
    """Return why what `place` tells about is not finished."""
    if snapshot.worker.processes == 0 and snapshot.pace.paused is None:
        message = "No worker runs: nothing is sent before one is started."
        return WaitReason(WaitCode.NO_WORKER, message, None)
    if not place.batches and place.retry_due is None:
        message = "Its last batch is under way."
        return WaitReason(WaitCode.MAX_CONCURRENT, message, place.under_way_until)
    still = standstill(snapshot)
    if still.state is QueueState.PAUSED:
        message = f"The queue is paused: {still.reason or 'no reason given'}."
        return WaitReason(WaitCode.PAUSED, message, None)
    if not place.batches:
        message = "What has failed is tried again later."
        return WaitReason(WaitCode.RETRY_BACKOFF, message, place.retry_due)
    if still.state is QueueState.HELD:
        return WaitReason(WaitCode.UPSTREAM_HOLD, _HELD[still.reason or _ASKED], still.until)
    first = next_served(snapshot)
    if first is not None and first.sequence != place.sequence:
        return _behind(first.priority, place)
    return _why_not_now(snapshot)


def _behind(priority: Priority, place: Place) -> WaitReason:
    starts_at = place.forecast.next_start_at if place.forecast else None
    if priority < place.priority:
        message = "More urgent ingestions go first."
        return WaitReason(WaitCode.HIGHER_PRIORITY, message, starts_at)
    return WaitReason(WaitCode.IN_LINE, "Ingestions that came earlier go first.", starts_at)


def _why_not_now(snapshot: QueueSnapshot) -> WaitReason:
    model, next_at = snapshot.model, snapshot.pace.next_at
    ends = sorted(model.ends)
    free_at = ends[len(ends) - model.concurrent] if len(ends) >= model.concurrent else -math.inf
    if free_at > next_at:
        message = "As many batches as allowed are under way."
        return WaitReason(WaitCode.MAX_CONCURRENT, message, free_at)
    if model.opens_at > max(next_at, snapshot.now):
        message = "Requests posted together are put in order."
        return WaitReason(WaitCode.SETTLING, message, model.opens_at)
    message = "It is next; the slot opens at the pace."
    return WaitReason(WaitCode.RATE_LIMIT, message, model.opens_at)
