"""Connectors that wait, on threads of their own, so that the worker's does not."""

import logging
import math
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ingest_service import logs
from ingest_service.clock import Clock
from ingest_service.domain.model import Batch, Outcome
from ingest_service.upstreams import sending
from ingest_service.upstreams.protocol import Call, Connector, FinishedCall, crashed

Task = Callable[[], None]
#: What came of a part: outcomes, what was raised, or None as long as it is under way.
_End = Sequence[Outcome] | BaseException | None


class Pool:
    """At most `size` daemon threads, started when they are needed.

    Not `concurrent.futures`: the end of the process would wait for its threads,
    and a connector may never return.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._threads = 0
        self._taken = 0

    def submit(self, tasks: Sequence[Task]) -> bool:
        """Run all `tasks` at the same time; return False, without running any, if too many run."""
        with self._lock:
            if self._taken + len(tasks) > self._size:
                return False
            # Threads first: the machine may refuse to start one.
            while self._threads < self._taken + len(tasks):
                threading.Thread(target=self._work, name="upstream", daemon=True).start()
                self._threads += 1
            self._taken += len(tasks)
        for task in tasks:
            self._tasks.put(task)
        return True

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            try:
                task()
            finally:
                with self._lock:
                    self._taken -= 1
            # A finished task can hold a large answer until the next one comes.
            del task


class ThreadedCall:
    """A batch whose parts are under way on threads."""

    announced = True

    def __init__(
        self,
        clock: Clock,
        parts: Sequence[Batch],
        deadline: float,
        late: Outcome,
        on_end: Task,
    ) -> None:
        self._clock = clock
        self._sent_at = -math.inf
        self._lock = threading.Lock()
        self._parts = parts
        self._ended: list[_End] = [None] * len(parts)
        self._missing = len(parts)
        self._deadline = deadline
        self._late = late
        self._on_end = on_end

    def tasks(self, most: int, connector: Connector) -> list[Task]:
        """Return what sends the parts, at most `most` at the same time."""

        def task(share: range) -> Task:
            return lambda: self._run(share, connector)

        count = min(most, len(self._parts))
        return [task(range(first, len(self._parts), count)) for first in range(count)]

    def _run(self, share: range, connector: Connector) -> None:
        for part in share:
            ended: _End
            if self._clock.monotonic() >= self._deadline:
                # It was given up: what is left is sent again, and not twice at a time.
                return
            self._note_sent()
            try:
                # None would be taken for a part that is late; any other nonsense is noticed.
                with sending.noting(self._note_sent):
                    ended = connector(self._parts[part]) or ()
            except BaseException as error:  # noqa: BLE001 - told to the worker by `outcomes`
                # Also a connector's sys.exit(): the thread is needed.
                ended = error
            self._end(part, ended)

    def _note_sent(self) -> None:
        at = self._clock.monotonic()
        with self._lock:
            self._sent_at = max(self._sent_at, at)

    def sent_at(self) -> float:
        """Return when the last request so far went out; -inf before the first."""
        with self._lock:
            return self._sent_at

    def ends_at(self) -> float:
        """Return when it is given up; -inf once every part has ended."""
        with self._lock:
            return self._deadline if self._missing else -math.inf

    def outcomes(self) -> Sequence[Outcome]:
        """Return the outcomes of all parts; a part that is late counts as failed."""
        with self._lock:
            ended = list(zip(self._parts, self._ended, strict=True))
        return [outcome for part, outcomes in ended for outcome in self._of(part, outcomes)]

    def _of(self, part: Batch, ended: _End) -> Sequence[Outcome]:
        if ended is None:
            return [self._late] * len(part.items)
        if isinstance(ended, BaseException):
            return crashed(part, ended)
        if not isinstance(ended, list | tuple) or len(ended) != len(part.items):
            return crashed(part, TypeError("not one outcome an item"))
        return ended

    def _end(self, part: int, ended: _End) -> None:
        with self._lock:
            self._ended[part] = ended
            self._missing -= 1
            last = not self._missing
        if last:
            self._on_end()


class ThreadedUpstream:
    """Runs a connector, once a batch or once an item, all items of a batch at the same time.

    `at_a_time` is how many calls of the connector may be under way. `timeout` is how
    long a batch may take in seconds, whatever the connector does: it is given up
    then, and its thread is lost until the connector returns. When too many are
    lost, nothing more is sent until some come back.
    """

    latency = None

    def __init__(
        self, clock: Clock, connector: Connector, *, timeout: float, at_a_time: int, by_item: bool
    ) -> None:
        self._clock = clock
        self._connector = connector
        self._timeout = timeout
        self._by_item = by_item
        self._at_a_time = at_a_time
        # As many again may be lost before that matters.
        self._pool = Pool(2 * at_a_time)

    def start(self, batch: Batch, on_end: Task) -> Call:
        """Begin to send the batch, or all its items."""
        parts = list(_items(batch)) if self._by_item else [batch]
        reason = f"The upstream did not answer within {self._timeout:g} s."
        late = Outcome(succeeded=False, error=reason, transient=True)
        deadline = self._clock.monotonic() + self._timeout
        call = ThreadedCall(self._clock, parts, deadline, late, on_end)
        # A batch can be larger than batches are now: cut before a restart with other settings.
        if self._pool.submit(call.tasks(self._at_a_time, self._connector)):
            return call
        logs.event("upstream_hangs", level=logging.ERROR, batch_id=batch.batch_id)
        reason = "Too many earlier calls of the upstream never returned."
        # Nothing was sent, so it is as good as unreachable, and no attempt is lost.
        lost = replace(late, error=reason, unreachable=True, unsent=True)
        return FinishedCall([lost] * len(batch.items))


def _items(batch: Batch) -> Iterable[Batch]:
    """Yield a batch for each item."""
    for place, item in zip(batch.offsets, batch.items, strict=True):
        yield replace(batch, offsets=[place], items=[item])
