"""A call to the upstream, whatever that does: for whoever sends batches."""

import math
from collections.abc import Callable, Sequence

from ingest_service.domain.model import Batch, Outcome
from ingest_service.upstreams.outcomes import MOST_BESIDE, all_bounded, bounded_together
from ingest_service.upstreams.protocol import Call, FinishedCall, Upstream, crashed

#: Most bytes that are kept of a batch: SQLite takes twice as much in one piece.
MOST_OF_BATCH = 256 * 2**20


def begin(upstream: Upstream, batch: Batch, on_news: Callable[[], None]) -> Call:
    """Begin to send `batch`; what raises is a call that has failed."""
    try:
        return upstream.start(batch, on_news)
    except Exception as error:  # noqa: BLE001 - whatever an upstream does ends its batch only
        return FinishedCall(crashed(batch, error))


def held_until(call: Call, now: float, longest: float) -> float:
    """Return until when the answers so far ask to be left alone, -inf if none does.

    A hold counts from its answer, for `longest` seconds at most.
    """
    holds = [at + min(seconds, longest) for at, seconds in call.retry_after() if at <= now]
    return max(holds, default=-math.inf)


def outcomes_of(call: Call, batch: Batch, max_response: int) -> Sequence[Outcome]:
    """Return exactly one outcome an item that can be kept, whatever the upstream says."""
    try:
        outcomes = all_bounded(call.outcomes(), max_response)
    except Exception as error:  # noqa: BLE001 - whatever an upstream does ends its batch only
        return crashed(batch, error)
    if len(outcomes) != len(batch.offsets):
        return crashed(batch, ValueError(f"{len(outcomes)} outcomes"))
    if len(outcomes) * (max_response + MOST_BESIDE) <= MOST_OF_BATCH:
        return outcomes
    return bounded_together(outcomes, MOST_OF_BATCH)
