"""When the next slot opens: the row that everybody locks, as the domain's plain values."""

import math
from enum import IntEnum
from typing import Any

from ingest_service.domain.model import Priority
from ingest_service.domain.pace import Pace
from ingest_service.domain.policy import QueueEntry
from ingest_service.engines.options import EngineOptions

#: Seconds between the confirmation of a slot and the call, at most; the next slot waits as long
#: where nobody has said yet that the batch was sent.
FENCE = 0.05
#: Seconds after which a slot that nobody has confirmed is given back.
STALE = 1.0


class Stage(IntEnum):
    """How far the batch of the last slot is."""

    TAKEN = 0
    CONFIRMED = 1
    CALLED = 2
    SENT = 3


def pace_of(row: Any, options: EngineOptions, settle: float) -> Pace:
    """Return the pace that `row` tells, which was read at `row.now`."""
    interval = options.interval
    if row.interval_ is not None and row.configured == options.interval:
        interval = row.interval_
    longest = row.now + options.retry_policy.max_retry_after
    return Pace(
        interval=interval,
        settle=settle,
        # Later than now if somebody has set the clock back.
        last_at=min(row.last_at, row.now),
        started_at=row.started_at,
        held_until=min(row.held_until, longest),
        probe_at=row.probe_at,
        paused=row.paused,
    )


def fenced(pace: Pace, row: Any) -> Pace:
    """Return the pace that leaves room for a call that was confirmed, and maybe not made yet."""
    in_doubt = row.stage in (Stage.CONFIRMED, Stage.CALLED)
    return pace._replace(last_at=pace.last_at + FENCE) if in_doubt else pace


def concurrent(row: Any, options: EngineOptions) -> int:
    """Return how many batches may be under way: one while the upstream cannot be reached."""
    return 1 if row.probe_at > -math.inf else options.max_concurrent


def entry_of(row: Any) -> QueueEntry:
    """Return the place of an ingestion in the line."""
    return QueueEntry(row.sequence, Priority(row.priority), row.since, str(row.id), row.left_)
