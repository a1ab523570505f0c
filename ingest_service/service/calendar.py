"""From monotonic instants to times for people."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta

from ingest_service.domain.snapshot import QueueSnapshot

#: By how much two readings of both clocks may differ in their difference.
CLOCK_JITTER = timedelta(milliseconds=50)


#: Tells when a monotonic instant is; None if nobody can tell.
Wall = Callable[[float | None], datetime | None]


class Calendar:
    """The same instant is always the same time, unless somebody sets the clock."""

    def __init__(self) -> None:
        #: The wall-clock time at which the monotonic clock was 0.
        self._zero: datetime | None = None

    def of(self, snapshot: QueueSnapshot) -> Wall:
        """Return what tells when an instant is, seen from `snapshot`."""
        zero = snapshot.at - timedelta(seconds=snapshot.now)
        known = self._zero
        if known is None or abs(zero - known) > CLOCK_JITTER:
            known = self._zero = zero

        def wall(instant: float | None) -> datetime | None:
            if instant is None or not math.isfinite(instant):
                return None
            try:
                return known + timedelta(seconds=instant)
            except OverflowError:
                # Beyond all calendars.
                return None

        return wall
