"""When the slots to come open, as long as there is always something to send."""

import heapq
from typing import NamedTuple


class SlotModel(NamedTuple):
    """What decides when slots open; instants are monotonic, durations seconds."""

    #: The first slot, as far as the pace is concerned.
    opens_at: float
    interval: float
    #: How long a batch takes, as far as one can tell.
    duration: float
    #: How many batches may be under way at a time.
    concurrent: int
    #: When those under way will have ended, as far as one can tell.
    ends: tuple[float, ...] = ()


class _Simulation:
    """The slots one after the other."""

    def __init__(self, model: SlotModel, now: float) -> None:
        self._model = model
        self._opens_at = max(model.opens_at, now)
        self._ends = sorted(max(end, now) for end in model.ends)

    def take(self) -> float:
        """Take the next slot; return when it opens."""
        at, ends, model = self._opens_at, self._ends, self._model
        if len(ends) >= model.concurrent:
            at = max(at, ends[len(ends) - model.concurrent])
        while ends and ends[0] <= at:
            heapq.heappop(ends)
        heapq.heappush(ends, at + model.duration)
        self._opens_at = at + model.interval
        return at


class SlotTimes:
    """The instants of slots number 0, 1, 2, ... from `now` on, each found in constant time."""

    def __init__(self, model: SlotModel, now: float) -> None:
        self._model = model
        self._base = 0
        self._simulation: _Simulation | None = None
        self._begin(model, now)

    def at(self, number: int) -> float:
        """Return when slot `number` opens."""
        number -= self._base
        if not self._under_way:
            return self._opens_at + self._pattern(number)
        if self._simulation is None:
            # Most are asked while nothing is under way, and need none.
            self._simulation = _Simulation(*self._begun)
        while len(self._first) <= min(number, 4 * self._model.concurrent):
            self._first.append(self._simulation.take())
        if number < len(self._first):
            return self._first[number]
        # From here on the same pattern of as many slots as may be under way repeats itself.
        concurrent = self._model.concurrent
        pattern = len(self._first) - concurrent
        rounds, place = divmod(number - pattern, concurrent)
        return self._first[pattern + place] + self._pattern(rounds * concurrent)

    def delay(self, number: int, at: float) -> None:
        """Open slot `number` at `at`, because there is nothing to send before; not earlier."""
        if at <= self.at(number):
            return
        concurrent, duration = self._model.concurrent, self._model.duration
        before = range(max(self._base, number - concurrent), number)
        ends = [self.at(earlier) + duration for earlier in before] + list(self._model.ends)
        self._base = number
        later = tuple(end for end in ends if end > at)
        self._begin(self._model._replace(opens_at=at, ends=later), at)

    def count_before(self, instant: float, number: int, most: int) -> int:
        """Return how many slots, from `number` on and at most `most`, open before `instant`."""
        if most <= 0 or self.at(number) >= instant:
            return 0
        low, high = 0, 1
        while high < most and self.at(number + high) < instant:
            low, high = high, 2 * high
        high = min(high, most)
        # Slot `low` opens before it, slot `high` does not, or is one too many.
        while high - low > 1:
            middle = (low + high) // 2
            if self.at(number + middle) < instant:
                low = middle
            else:
                high = middle
        return high if high == most and self.at(number + high - 1) < instant else low + 1

    def _pattern(self, number: int) -> float:
        """Return how long after slot 0 slot `number` opens if nothing was under way by then."""
        concurrent, interval = self._model.concurrent, self._model.interval
        rounds, place = divmod(number, concurrent)
        return rounds * max(concurrent * interval, self._model.duration) + place * interval

    def _begin(self, model: SlotModel, now: float) -> None:
        self._opens_at, self._under_way = max(model.opens_at, now), bool(model.ends)
        self._begun = model, now
        self._first: list[float] = []
        self._simulation = None


def expected_end(started_at: float, duration: float, now: float) -> float:
    """Return when a batch will have ended that is under way, where batches take `duration`."""
    if started_at + duration > now:
        return started_at + duration
    # It takes longer than usual. An estimate that moved with every look would
    # be news to everybody who waits for some, so it moves in growing steps.
    expected = max(duration, 1.0)
    while started_at + expected <= now:
        expected *= 2
    return started_at + expected
