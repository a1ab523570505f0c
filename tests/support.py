"""Frozen time with and without the worker's thread, and an upstream that remembers."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, cast

from flask.testing import FlaskClient
from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory

from ingest_service.app import Parts, build, create_app
from ingest_service.domain.model import Batch, Outcome
from ingest_service.engines.embedded.worker import Worker
from ingest_service.settings import Settings
from ingest_service.upstreams.protocol import Call, FinishedCall

#: When time is frozen.
EPOCH = "2026-01-01T12:00:00Z"

#: How long a test waits for a thread before it fails, in real seconds.
GUARD = 20.0


class Timeline(Protocol):
    """The time of a test."""

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, deadline by deadline: one leap would skip those in between."""
        ...


class FrozenClock:
    """Reads freezegun's frozen time, identically in every thread.

    `datetime.now()` is frozen everywhere; `time.monotonic()` is not: freezegun
    hands back the real one to a caller within five frames of `threading`.
    """

    boot_id = "frozen"

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return self.now().timestamp()

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing may sleep on a thread that a test steps")

    def wait_for(
        self, condition: threading.Condition, ready: Callable[[], object], timeout: float | None
    ) -> None:
        raise AssertionError("nothing may wait on a thread that a test steps")


class Stepper:
    """A timeline without a thread: runs the worker's steps on the calling one."""

    def __init__(self, frozen: FrozenDateTimeFactory, clock: FrozenClock, worker: Worker) -> None:
        self._frozen = frozen
        self._clock = clock
        self._worker = worker

    def advance(self, seconds: float) -> None:
        end = self._clock.monotonic() + seconds
        while (due := self._worker.step()) <= end:
            jump_to(self._frozen, due)
        jump_to(self._frozen, end)


class LockstepClock(FrozenClock):
    """A timeline for the real thread: time stands still while the worker works.

    The worker parks in `sleep` or `wait_for`; `advance` moves frozen time to the
    deadline it parked with and waits until it has parked again.
    """

    def __init__(self, frozen: FrozenDateTimeFactory) -> None:
        self._frozen = frozen
        self._changed = threading.Condition()
        self._released = False
        #: While the worker is parked: until when, and whether something else ends it.
        self._parked: tuple[float, Callable[[], object]] | None = None
        #: What the worker waits for, or has waited for last, besides time.
        self._waited_for: threading.Condition | None = None

    def sleep(self, seconds: float) -> None:
        deadline = self.monotonic() + seconds

        def over() -> bool:
            return self._released or self.monotonic() >= deadline

        with self._changed:
            self._park(deadline, over)
            self._changed.wait_for(over)
            self._parked = None

    def wait_for(
        self, condition: threading.Condition, ready: Callable[[], object], timeout: float | None
    ) -> None:
        deadline = math.inf if timeout is None else self.monotonic() + timeout

        def over() -> bool:
            return self._released or self.monotonic() >= deadline

        with self._changed:
            self._park(deadline, lambda: over() or ready())
            self._waited_for = condition
        condition.wait_for(lambda: over() or ready())
        with self._changed:
            self._parked = None

    def advance(self, seconds: float) -> None:
        end = self.monotonic() + seconds
        while (deadline := self._settle()) <= end:
            self._jump(deadline)
        self._jump(end)
        self._settle()

    def release(self) -> None:
        """End every sleep from now on, so that the worker can be stopped."""
        with self._changed:
            self._released = True
            self._changed.notify_all()
        self._notify_waiter()

    def _park(self, deadline: float, ready: Callable[[], object]) -> None:
        self._parked = deadline, ready
        self._changed.notify_all()

    def _jump(self, instant: float) -> None:
        with self._changed:
            jump_to(self._frozen, instant)
            self._changed.notify_all()
        self._notify_waiter()

    def _notify_waiter(self) -> None:
        # Not under `_changed`: whoever waits took that one second.
        if self._waited_for is not None:
            with self._waited_for:
                self._waited_for.notify_all()

    def _settle(self) -> float:
        """Wait until the worker is parked with nothing new to look at; return its deadline."""
        with self._changed:
            if not self._changed.wait_for(self._at_rest, timeout=GUARD):
                raise AssertionError("the worker did not come to rest")
            assert self._parked is not None
            return self._parked[0]

    def _at_rest(self) -> bool:
        return self._parked is not None and not self._parked[1]()


def jump_to(frozen: FrozenDateTimeFactory, instant: float) -> None:
    """Move to `instant`, rounded up: freezegun counts in microseconds."""
    ahead = instant - datetime.now(UTC).timestamp()
    if ahead > 0 and math.isfinite(ahead):
        frozen.tick(timedelta(microseconds=math.ceil(ahead * 1_000_000)))


@dataclass
class RecordingUpstream:
    """Takes `latency` seconds a batch and remembers when each was started.

    `reply` makes the outcomes; it may raise, and return nonsense.
    """

    clock: FrozenClock
    latency: float | None = 1.0
    reply: Callable[[Batch], Any] = lambda batch: [
        Outcome(succeeded=True, processed_data={"got": item}) for item in batch.items
    ]
    starts: list[tuple[float, Batch]] = field(default_factory=list)

    def trouble(self) -> str | None:
        return None

    def start(self, batch: Batch, on_end: Callable[[], None]) -> Call:
        now = self.clock.monotonic()
        self.starts.append((now, batch))
        return FinishedCall(cast(Sequence[Outcome], self.reply(batch)), now + (self.latency or 0.0))


@dataclass
class Api:
    """The service as a client sees it, and the time it lives in."""

    client: FlaskClient
    timeline: Timeline
    upstream: RecordingUpstream
    began: float
    parts: Parts

    def ingest(self, ids: Sequence[int], priority: str = "MEDIUM") -> str:
        """Post ids; return the id of the ingestion."""
        answer = self.client.post("/ingest", json={"ids": list(ids), "priority": priority})
        assert answer.status_code == 200, answer.text
        return str(answer.get_json()["ingestion_id"])

    def ingest_mappings(self, count: int, priority: str = "MEDIUM") -> str:
        """Post `count` mappings; return the id of the ingestion."""
        mappings = [{"id": f"m{n}", "source": "s", "target": "t"} for n in range(count)]
        answer = self.client.post("/ingest", json={"mappings": mappings, "priority": priority})
        assert answer.status_code == 200, answer.text
        return str(answer.get_json()["request_id"])

    def status(self, ingestion_id: str) -> dict[str, Any]:
        """Return the status document of an ingestion."""
        return cast(dict[str, Any], self.client.get(f"/status/{ingestion_id}").get_json())

    def results(self, ingestion_id: str, **query: Any) -> dict[str, Any]:
        """Return the results document of an ingestion."""
        found = self.client.get(f"/status/{ingestion_id}/results", query_string=query)
        return cast(dict[str, Any], found.get_json())

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.timeline.advance(seconds)

    def sent(self) -> list[tuple[float, list[Any]]]:
        """Return what reached the upstream: (seconds since the test began, items)."""
        return [(round(at - self.began, 3), list(b.items)) for at, b in self.upstream.starts]


#: What serves instead, on another engine: given the settings and the number of workers.
ELSEWHERE: list[Callable[[Settings, int], AbstractContextManager["Api"]]] = []


@contextmanager
def serving(settings: Settings, *, threaded: bool, workers: int = 1) -> Iterator[Api]:
    """Give a client in frozen time; the worker has its own thread or is stepped on this one."""
    if ELSEWHERE:
        with ELSEWHERE[0](settings, workers) as served:
            yield served
        return
    with freeze_time(EPOCH) as frozen:
        assert isinstance(frozen, FrozenDateTimeFactory)
        clock = LockstepClock(frozen) if threaded else FrozenClock()
        upstream = RecordingUpstream(clock)
        parts = build(settings, clock=clock, upstream=upstream)
        timeline: Timeline = (
            clock if isinstance(clock, LockstepClock) else Stepper(frozen, clock, parts.worker)
        )
        if threaded:
            parts.worker.start()
        client = create_app(settings, parts).test_client()
        yield Api(client, timeline, upstream, clock.monotonic(), parts)
        parts.worker.stop(timeout=0)
        if isinstance(clock, LockstepClock):
            clock.release()
        assert parts.worker.stop(GUARD), "the worker's thread outlived its test"
