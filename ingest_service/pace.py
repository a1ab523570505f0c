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

    def opens_at(self, filled_at: float) -> float:
        """Return when the next slot opens for a queue that has not been empty since `filled_at`.

        The settling delay lets requests that are posted together be ordered by priority.
        """
        return max(self.next_at, filled_at + self.settle)

    def take(self, now: float) -> None:
        """Spend the slot that is open at `now`."""
        self.next_at = max(now, self.next_at) + self.interval
