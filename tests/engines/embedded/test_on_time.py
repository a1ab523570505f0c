"""A batch goes out when its slot opens: not before, and no later for what has to be recorded."""

from datetime import timedelta
from itertools import pairwise

import pytest
from freezegun.api import FrozenDateTimeFactory

from ingest_service.app import Parts, build
from ingest_service.domain.items import Ids, Kind
from ingest_service.domain.model import Batch, Priority
from ingest_service.engines.embedded.journal import Started
from ingest_service.settings import Settings
from ingest_service.upstreams.protocol import FinishedCall, OnNews
from ingest_service.upstreams.simulated import SimulatedUpstream
from tests.engines.embedded.support import WatchedJournal
from tests.support import FrozenClock, jump_to

INTERVAL = 5.0
#: Seconds that the record of a start takes.
RECORDING = 0.002


class SleepingClock(FrozenClock):
    """Time that passes while somebody sleeps."""

    def __init__(self, frozen: FrozenDateTimeFactory) -> None:
        self._frozen = frozen

    def sleep(self, seconds: float) -> None:
        jump_to(self._frozen, self.monotonic() + seconds)


class TimedUpstream(SimulatedUpstream):
    """Notes when each batch arrives, and how late it lets the first one be."""

    def __init__(self, clock: FrozenClock, frozen: FrozenDateTimeFactory) -> None:
        super().__init__(clock, 0.5, dict.fromkeys(Kind, 1.0), seed=1)
        self._frozen = frozen
        self.late = 0.0
        self.arrivals: list[float] = []
        self.items: list[int] = []

    def start(self, batch: Batch, on_news: OnNews) -> FinishedCall:
        self._frozen.tick(timedelta(seconds=self.late))
        self.late = 0.0
        self.arrivals.append(self._clock.monotonic())
        self.items += batch.items
        return super().start(batch, on_news)


class Scene:
    """A service whose journal takes a while, with a long line."""

    def __init__(self, frozen: FrozenDateTimeFactory) -> None:
        self._frozen = frozen
        self.clock = SleepingClock(frozen)
        self.upstream = TimedUpstream(self.clock, frozen)
        self.journal = WatchedJournal()
        self.journal.after = lambda change: (
            frozen.tick(timedelta(seconds=RECORDING)) if isinstance(change, Started) else None
        )
        self.parts: Parts = build(
            Settings(settle=0, interval=INTERVAL),
            clock=self.clock,
            journal=self.journal,
            upstream=self.upstream,
        )
        self.accept(range(1, 100), Priority.LOW)

    def accept(self, ids: range, priority: Priority) -> None:
        """Let something wait."""
        self.parts.service.submissions.accept(Ids(ids), priority)

    def step_until(self, arrivals: int) -> float:
        """Take turns until so many batches have arrived; return when the next turn is due."""
        due = self.clock.monotonic()
        for _ in range(100):
            if len(self.upstream.arrivals) >= arrivals:
                return due
            jump_to(self._frozen, max(due, self.clock.monotonic()))
            due = self.parts.worker.step()
        raise AssertionError("the worker turns round and round")

    def gaps(self) -> list[float]:
        """Return the seconds from one arrival to the next."""
        arrivals = self.upstream.arrivals
        return [later - earlier for earlier, later in pairwise(arrivals)]


@pytest.fixture
def scene(frozen: FrozenDateTimeFactory) -> Scene:
    """Give it in frozen time."""
    return Scene(frozen)


def test_no_start_is_late_for_its_record(scene: Scene) -> None:
    """Each was as much too late as a commit takes, and none could make up for it."""
    scene.step_until(5)

    assert scene.gaps() == pytest.approx([INTERVAL] * 4, abs=1e-5)


def test_the_record_of_a_start_is_of_the_moment_of_its_slot(scene: Scene) -> None:
    """The pace goes on from it after a crash, so it is no earlier than the call."""
    recorded: list[float] = []
    scene.journal.before = lambda change: (
        recorded.append(change.instant.monotonic) if isinstance(change, Started) else None
    )
    scene.step_until(4)

    assert recorded[1:] == pytest.approx(scene.upstream.arrivals[1:], abs=1e-5)


def test_a_call_that_came_late_moves_the_next_slot(scene: Scene) -> None:
    """Whatever held it up: the upstream sees no gap that is too short."""
    scene.upstream.late = 0.004
    scene.step_until(3)

    assert min(scene.gaps()) >= INTERVAL - 1e-5


def test_what_is_urgent_still_overtakes_until_the_record_is_begun(scene: Scene) -> None:
    """That is a few milliseconds before the slot, and no more."""
    due = scene.step_until(2)
    while due < scene.upstream.arrivals[-1] + 1:
        jump_to(scene._frozen, due)
        due = scene.parts.worker.step()
    scene.accept(range(1_000, 1_001), Priority.HIGH)

    assert due == pytest.approx(scene.upstream.arrivals[-1] + INTERVAL - 2 * RECORDING, abs=1e-5)
    scene.step_until(3)
    assert scene.upstream.items[-1] == 1_000
