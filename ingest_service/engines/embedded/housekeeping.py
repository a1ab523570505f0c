"""What the worker does besides: recording what a restart found, forgetting what is too old."""

import math
from datetime import datetime

from ingest_service.engines.embedded.core import Core

#: Seconds between two steps of forgetting while there is more.
_BETWEEN_STEPS = 0.25


class Housekeeping:
    """Small steps, so that nobody notices."""

    def __init__(self, core: Core) -> None:
        self._core = core
        #: When there is something to do next (monotonic).
        self.due = -math.inf
        self._expires = math.inf
        self._not_before = -math.inf

    def record_overdue(self) -> None:
        """Record what was found at the start, if that was not possible yet."""
        self._core.record_overdue()

    def tidy(self) -> float:
        """Forget a little of what is too old; return when there is more to do, inf if never."""
        core, now = self._core, self._core.clock.monotonic()
        if now >= self.due:
            with core.lock:
                core.state.forget_finished(core.clock.now(), expired=core.expiry())
            with core.changes:
                # What is being opened again is not forgotten meanwhile.
                pruned = core.journal.prune(core.expiry())
            self._expires = now if pruned else self._next_expiry(now)
            self._not_before = now + _BETWEEN_STEPS
        # Counted from the last step and not from now: turns can follow one another faster.
        self.due = max(self._not_before, min(self._expires, self._next_forgotten(now)))
        return self.due

    def _next_forgotten(self, now: float) -> float:
        with self._core.lock:
            return self._until(self._core.state.next_forgotten(), now)

    def _next_expiry(self, now: float) -> float:
        oldest = self._core.journal.oldest_finished()
        return self._until(oldest and oldest + self._core.options.retention, now)

    def _until(self, at: datetime | None, now: float) -> float:
        if at is None:
            return math.inf
        return now + (at - self._core.clock.now()).total_seconds()
