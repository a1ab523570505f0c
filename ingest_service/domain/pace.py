"""When the next slot opens: arithmetic over readings it is given, no clock, no I/O."""

import math
from typing import NamedTuple

#: Seconds; clocks here tell no moments apart that are nearer to each other.
_SHORTEST = 1e-6


def limits(interval: float) -> bool:
    """Tell whether slots so far apart can be counted; nearer to each other, there is no limit."""
    return interval >= _SHORTEST


class Pace(NamedTuple):
    """Slots at least `interval` seconds apart, start to start; instants are monotonic.

    Instants are compared and never subtracted: `now - last < interval` is wrong
    for most steps of a tenth of a second in floats.
    """

    interval: float
    #: Seconds an empty queue waits for more before it starts.
    settle: float
    #: When the last batch was started, as far as the waiting is concerned.
    last_at: float = -math.inf
    #: When it was really started; None if nobody knows.
    started_at: float | None = None
    #: Until when the upstream asked to be left alone.
    held_until: float = -math.inf
    #: While the upstream cannot be reached: when to try again.
    probe_at: float = -math.inf
    #: Why the operator has paused it; None while it runs.
    paused: str | None = None

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

    def taken(self, now: float) -> "Pace":
        """Return the pace after the slot that is open at `now` was spent."""
        # Spelt out, because it happens for every batch.
        return Pace(
            self.interval, self.settle, now, now, self.held_until, self.probe_at, self.paused
        )

    def sent(self, at: float) -> "Pace":
        """Return the pace that counts from `at`, if what was started last went out only then."""
        if at <= self.last_at:
            return self
        # As in `taken`.
        return Pace(
            self.interval,
            self.settle,
            at,
            self.started_at,
            self.held_until,
            self.probe_at,
            self.paused,
        )

    def held(self, until: float) -> "Pace":
        """Return the pace that leaves the upstream alone until then; never shorter than before."""
        return self._replace(held_until=until) if until > self.held_until else self

    def resumed(self, last: float | None, now: float) -> "Pace":
        """Return the pace after a restart at `now`; the last slot was taken at `last`, if known.

        Waits for the rest of the interval, or for a whole one if nobody can tell
        how much of it is over; never longer.
        """
        return self._replace(started_at=last, last_at=now if last is None else min(last, now))
