"""How long to wait before trying again: pure arithmetic, and chance that can be replaced."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ingest_service.domain.model import Outcome

#: So many items in a row that could not even be sent mean that the upstream is gone.
UNREACHABLE = 5


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """Whether the upstream can be reached; while it is open only probes are sent."""

    #: How many items in a row could not be sent.
    missed: int = 0
    #: How many batches have failed since it was lost.
    probes: int = 0

    @property
    def is_open(self) -> bool:
        """Whether nobody is there, as far as one can tell."""
        return self.missed >= UNREACHABLE

    def after(self, outcomes: Iterable[Outcome]) -> "CircuitBreaker":
        """Return what is known after another batch."""
        missed = self.missed
        for outcome in outcomes:
            missed = missed + 1 if outcome.unreachable else 0
        if missed == self.missed == 0:
            return self
        return CircuitBreaker(missed, self.probes + 1 if missed >= UNREACHABLE else 0)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What is done about attempts that failed; times in seconds."""

    max_attempts: int
    backoff: float
    backoff_max: float
    #: The longest `Retry-After` that is obeyed.
    max_retry_after: float
    #: A number from 0 to 1 by chance.
    chance: Callable[[], float] = random.random

    def wait(self, attempt: int) -> float:
        """Return how long to wait after attempt number `attempt`: exponential, with full jitter.

        See "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
        """
        return self._doubled(self.backoff, attempt) * self.chance()

    def wait_to_probe(self, breaker: CircuitBreaker, interval: float) -> float:
        """Return how long to leave an upstream alone that cannot be reached."""
        return self._doubled(max(self.backoff, interval), breaker.probes)

    def _doubled(self, first: float, count: int) -> float:
        # The exponent is bounded because a float is not endless.
        return min(self.backoff_max, first * 2.0 ** min(max(count - 1, 0), 30))
