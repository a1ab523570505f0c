"""How many slots opened and were not used, and how many did not open at all."""

from dataclasses import dataclass

from ingest_service.domain.pace import Pace, limits


@dataclass(slots=True)
class SlotMeter:
    """Counts along with the monotonic clock; its owner has a lock.

    Told before every change of the pace. While there is no limit nothing is counted.
    """

    at: float
    #: Slots that opened, were there anything to send or not, and those that did not because of
    #: a pause or the upstream.
    opened: float = 0.0
    held: float = 0.0
    used: int = 0

    def advance(self, pace: Pace, now: float) -> None:
        """Count what there was until `now` at the pace there is."""
        if limits(pace.interval):
            closed_until = now if pace.paused is not None else min(now, pace.closed_until)
            closed = max(0.0, closed_until - self.at)
            self.held += closed / pace.interval
            self.opened += max(0.0, now - self.at - closed) / pace.interval
        self.at = now

    @property
    def idle(self) -> float:
        """Slots that opened, and nothing was started."""
        return max(0.0, self.opened - self.used)
