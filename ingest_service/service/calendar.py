"""From monotonic instants to times for people."""

import math
from datetime import datetime, timedelta

from ingest_service.domain.snapshot import QueueSnapshot

#: By how much two readings of both clocks may differ in their difference.
CLOCK_JITTER = timedelta(milliseconds=50)


class Calendar:
    """The same instant is always the same time, unless somebody sets the clock."""

    def __init__(self) -> None:
        #: The wall-clock time at which the monotonic clock was 0.
        self._zero: datetime | None = None

    def wall(self, snapshot: QueueSnapshot, instant: float | None) -> datetime | None:
        """Return when `instant` is, seen from `snapshot`; None if nobody can tell."""
        if instant is None or not math.isfinite(instant):
            return None
        zero = snapshot.at - timedelta(seconds=snapshot.now)
        if self._zero is None or abs(zero - self._zero) > CLOCK_JITTER:
            self._zero = zero
        try:
            return self._zero + timedelta(seconds=instant)
        except OverflowError:
            # Beyond all calendars.
            return None
