"""What the worker hears of a call, at whatever moment it happens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from freezegun.api import FrozenDateTimeFactory

from ingest_service.app import build
from ingest_service.domain.items import Ids
from ingest_service.domain.model import Batch, Outcome, Priority
from ingest_service.settings import Settings
from ingest_service.upstreams.protocol import OnNews
from tests.support import FrozenClock


@dataclass
class HastyCall:
    """Has not been sent whenever somebody asks, until he asks whether it has ended: it has."""

    clock: FrozenClock
    announced: bool = True
    #: When it was sent and answered, both at once.
    answered_at: float = -math.inf

    def ends_at(self) -> float:
        self.answered_at = max(self.answered_at, self.clock.monotonic())
        return -math.inf

    def ended_at(self) -> float:
        return self.answered_at

    def connecting(self) -> bool:
        return math.isinf(self.answered_at)

    def sent_at(self) -> float:
        return self.answered_at

    def retry_after(self) -> Sequence[tuple[float, float]]:
        return [] if self.connecting() else [(self.answered_at, 60.0)]

    def outcomes(self) -> Sequence[Outcome]:
        return [Outcome(succeeded=False, error="Too many requests.", retry_after=60.0)]


@dataclass
class HastyUpstream:
    """Answers just when nobody looks."""

    clock: FrozenClock
    latency: float | None = None

    def trouble(self) -> str | None:
        return None

    def start(self, batch: Batch, on_news: OnNews) -> HastyCall:
        return HastyCall(self.clock)


def test_what_happens_between_two_looks_at_a_call_is_not_overlooked(
    frozen: FrozenDateTimeFactory,
) -> None:
    """It was still connecting at the first look of the turn and had ended at the second one.

    The pace counts from when it was sent, and the upstream is left alone as it asks.
    """
    clock = FrozenClock()
    parts = build(Settings(settle=0), clock=clock, upstream=HastyUpstream(clock))
    parts.service.submissions.accept(Ids([1]), Priority.LOW)
    call_at = clock.monotonic()
    parts.worker.step()
    frozen.tick(timedelta(seconds=3))
    parts.worker.step()

    pace = parts.engine.reading.snapshot().pace
    assert pace.next_at - call_at == 3 + 5
    assert pace.held_until - call_at == 3 + 60
