"""When the next slot opens: arithmetic over readings it is given, no clock, no I/O."""

import math


class Pace:
    """Slots at least `interval` seconds apart, start to start.

    Instants are compared and never subtracted: `now - last < interval` is wrong
    for most steps of a tenth of a second in floats.
    """

    def __init__(self, interval: float, settle: float) -> None:
        self.interval = interval
        self.settle = settle
        #: The first instant at which the interval since the last start is over.
        self.next_at = -math.inf
        #: Until when the upstream asked to be left alone.
        self.held_until = -math.inf
        #: While the upstream cannot be reached: when to try again.
        self.probe_at = -math.inf

    def opens_at(self, filled_at: float) -> float:
        """Return when the next slot opens for a queue that has not been empty since `filled_at`.

        The settling delay lets requests that are posted together be ordered by priority.
        """
        return max(self.next_at, filled_at + self.settle, self.held_until, self.probe_at)

    def take(self, now: float) -> None:
        """Spend the slot that is open at `now`."""
        self.next_at = max(now, self.next_at) + self.interval

    def resume(self, last: float | None, now: float) -> None:
        """Go on after a restart at `now`; the last slot was taken at `last`, None if unknown.

        Waits for the rest of the interval, or for a whole one if nobody can tell
        how much of it is over; never longer.
        """
        rest_at = math.inf if last is None else last + self.interval
        self.next_at = min(rest_at, now + self.interval)
