"""How often a key may ask.

What clients are told follows draft-ietf-httpapi-ratelimit-headers-11 (23 May 2026): the policy
is a quota `q` in a window of `w` seconds; `r` is what remains of it, and `t` the seconds until
there is more.
"""

import math
from collections import defaultdict, deque
from dataclasses import dataclass
from functools import lru_cache

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from ingest_service.clock import Clock
from ingest_service.keys.key import Key

_POLICY = "requests"
_WINDOW = 60


@dataclass(frozen=True, slots=True)
class Rate:
    """How a key stands after a request."""

    allowed: bool
    quota: int
    remaining: int
    #: Whole seconds until one more is allowed than now.
    more_in: int

    @property
    def headers(self) -> dict[str, str]:
        """What a client is told with every answer."""
        return {
            "RateLimit-Policy": f'"{_POLICY}";q={self.quota};w={_WINDOW}',
            "RateLimit": f'"{_POLICY}";r={self.remaining};t={self.more_in}',
        }


@lru_cache(1_000)
def _item(quota: int) -> RateLimitItemPerMinute:
    return RateLimitItemPerMinute(quota)


class _Requests(MemoryStorage):
    """Forgets by the service's clock, when somebody asks.

    The original forgets in a thread of its own, by the system's clock.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._asked_at: defaultdict[str, deque[float]] = defaultdict(deque)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count `amount` requests of `key`, unless that makes more than `limit` in `expiry` s."""
        with self.locks[key]:
            now, asked_at = self._clock.now().timestamp(), self._asked_at[key]
            if asked_at and now < asked_at[-1] - 1:
                # The clock was set back. What was counted lies ahead, and would keep everybody
                # out until then.
                asked_at.clear()
            while asked_at and asked_at[0] < now - expiry:
                asked_at.popleft()
            if len(asked_at) + amount > limit:
                return False
            asked_at.extend([now] * amount)
            return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return when the oldest request that counts was made, and how many count."""
        with self.locks[key]:
            asked_at = self._asked_at[key]
            return (asked_at[0] if asked_at else self._clock.now().timestamp()), len(asked_at)


class Rates:
    """Counts the requests of the last minute, in this process; a refused one is not counted."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limiter = MovingWindowRateLimiter(_Requests(clock))

    def count(self, key: Key) -> Rate | None:
        """Count a request of `key`, None if it may ask as often as it likes.

        Keys of one name, of which one replaces the other, share what they may.
        """
        if key.requests_per_minute is None:
            return None
        item = _item(key.requests_per_minute)
        allowed = self._limiter.hit(item, key.name)
        stats = self._limiter.get_window_stats(item, key.name)
        # The oldest request leaves the window after that, not at that moment.
        more_in = math.floor(stats.reset_time - self._clock.now().timestamp()) + 1
        return Rate(allowed, key.requests_per_minute, max(0, stats.remaining), max(1, more_in))
