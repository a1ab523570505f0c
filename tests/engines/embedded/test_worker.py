"""What the worker hears of a call, at whatever moment it happens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
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


@dataclass
class ConnectingCall:
    """Is on its way until a test says that it went out, or that it has ended."""

    on_news: OnNews
    announced: bool = True
    is_sent: bool = False
    has_ended: bool = False

    def ends_at(self) -> float:
        return -math.inf if self.has_ended else math.inf

    def ended_at(self) -> float:
        return 0.0

    def connecting(self) -> bool:
        return not self.is_sent

    def sent_at(self) -> float:
        return -math.inf

    def retry_after(self) -> Sequence[tuple[float, float]]:
        return []

    def outcomes(self) -> Sequence[Outcome]:
        return [Outcome(succeeded=True)]


@dataclass
class SlowToConnect:
    """Leaves it to a test when its calls go out and when they end."""

    latency: float | None = None
    calls: list[ConnectingCall] = field(default_factory=list)

    def trouble(self) -> str | None:
        return None

    def start(self, batch: Batch, on_news: OnNews) -> ConnectingCall:
        self.calls.append(ConnectingCall(on_news))
        return self.calls[-1]


@pytest.mark.parametrize(("interval", "started"), [(0.0, 2), (0.001, 1)])
def test_a_batch_waits_for_the_one_before_only_where_there_is_an_interval(
    interval: float, started: int, frozen: FrozenDateTimeFactory
) -> None:
    """The interval counts from when that is on the wire; without one nothing counts."""
    upstream = SlowToConnect()
    settings = Settings(settle=0, interval=interval, max_concurrent_batches=2, batch_size_ids=1)
    parts = build(settings, clock=FrozenClock(), upstream=upstream)
    parts.service.submissions.accept(Ids([1, 2]), Priority.LOW)
    for _ in range(3):
        parts.worker.step()
        frozen.tick(timedelta(seconds=1))
    assert len(upstream.calls) == started


def test_that_a_batch_is_on_the_wire_is_heard_of_where_another_waits_for_that(
    frozen: FrozenDateTimeFactory,
) -> None:
    """It was the last that fitted in, and then one before it has ended."""
    upstream = SlowToConnect()
    settings = Settings(settle=0, interval=0.001, max_concurrent_batches=2, batch_size_ids=1)
    parts = build(settings, clock=FrozenClock(), upstream=upstream)
    looks = []
    parts.worker.wake = lambda: looks.append(len(upstream.calls))  # type: ignore[method-assign]
    parts.service.submissions.accept(Ids([1, 2, 3]), Priority.LOW)
    parts.worker.step()
    first = upstream.calls[0]
    first.is_sent = True
    frozen.tick(timedelta(seconds=1))
    parts.worker.step()
    second = upstream.calls[1]
    looks.clear()
    second.on_news()
    assert looks == [], "nothing else would fit in"
    first.has_ended = True
    parts.worker.step()
    second.is_sent = True
    second.on_news()
    assert looks == [2]
    frozen.tick(timedelta(seconds=1))
    parts.worker.step()
    assert len(upstream.calls) == 3
