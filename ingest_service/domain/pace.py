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
        #: When the last batch was started, as far as the waiting is concerned.
        self.last_at = -math.inf
        #: When it was really started; None if nobody knows.
        self.started_at: float | None = None
        #: Until when the upstream asked to be left alone.
        self.held_until = -math.inf
        #: While the upstream cannot be reached: when to try again.
        self.probe_at = -math.inf
        #: Why the operator has paused it; None while it runs.
        self.paused: str | None = None

    @property
    def next_at(self) -> float:
        """The first instant at which the interval since the last start is over."""
        return self.last_at + self.interval

    @property
    def closed_until(self) -> float:
        """Until when nothing is sent because of the upstream."""
        return max(self.held_until, self.probe_at)

    def opens_at(self, filled_at: float) -> float:
        """Return when the next slot opens for a queue that has not been empty since `filled_at`.

        The settling delay lets requests that are posted together be ordered by
        priority. Nobody knows when a pause ends, so then it is inf.
        """
        if self.paused is not None:
            return math.inf
        return max(self.next_at, filled_at + self.settle, self.closed_until)

    def gap(self, now: float) -> float | None:
        """Return the seconds since the last start, None if nobody knows; for the record only."""
        return None if self.started_at is None else now - self.started_at

    def take(self, now: float) -> None:
        """Spend the slot that is open at `now`."""
        self.last_at = self.started_at = now

    def note_sent(self, at: float) -> None:
        """Count from `at`, if what was started last went out only then."""
        self.last_at = max(self.last_at, at)

    def resume(self, last: float | None, now: float) -> None:
        """Go on after a restart at `now`; the last slot was taken at `last`, None if unknown.

        Waits for the rest of the interval, or for a whole one if nobody can tell
        how much of it is over; never longer.
        """
        self.started_at = last
        self.last_at = now if last is None else min(last, now)
