"""The one thread that sends batches: it repeats a step, and adds the waiting."""

import logging
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ingest_service import logs
from ingest_service.clock import Clock
from ingest_service.domain.model import Outcome
from ingest_service.domain.retry_policy import CircuitBreaker, RetryPolicy
from ingest_service.domain.settlement import Decision, decide
from ingest_service.domain.snapshot import WorkerState
from ingest_service.engines import Dispatch, Slot
from ingest_service.engines.calls import begin, held_until, outcomes_of
from ingest_service.engines.embedded.housekeeping import Housekeeping
from ingest_service.errors import StorageUnavailable
from ingest_service.upstreams.protocol import Call, Upstream, crashed

#: Longest sleep at a stretch, so that a stop or a clock that jumps is noticed.
SLICE = 0.25
#: Longest pause between two tries of what keeps failing, in seconds.
LONGEST_PAUSE = 30.0


@dataclass(slots=True)
class _UnderWay:
    """A batch that the upstream has."""

    slot: Slot
    call: Call
    #: When its last request went out, as far as the engine was told.
    sent_at: float | None = None
    #: What becomes of it, once it has ended: decided once, however often it is recorded.
    decision: Decision | None = None


@dataclass(slots=True)
class _News:
    """What a call calls when there is something new about it."""

    wake: Callable[[], None]
    #: Tells whether another batch may wait until this one is on the wire.
    is_awaited: Callable[[], bool]
    call: Call | None = None

    def __call__(self) -> None:
        call = self.call
        # Asked first: what it says of the wire is only true as long as the call is under way.
        sent_only = call is not None and call.ends_at() > -math.inf and not call.retry_after()
        if not sent_only or self.is_awaited():
            self.wake()


class Worker:
    """Drains the queue in order of priority, one batch a slot.

    All decisions are in `step`, which never waits and which a test can call
    without a thread; the thread only repeats it and adds the waiting.
    """

    def __init__(
        self,
        clock: Clock,
        dispatch: Dispatch,
        upstream: Upstream,
        retry_policy: RetryPolicy,
        housekeeping: Housekeeping,
        max_response: int,
    ) -> None:
        self._clock = clock
        self._dispatch = dispatch
        self._upstream = upstream
        self._retry_policy = retry_policy
        self._housekeeping = housekeeping
        #: Most bytes that are kept of an outcome.
        self._max_response = max_response
        self._breaker = CircuitBreaker()
        self._under_way: list[_UnderWay] = []
        self._changed = threading.Condition()
        #: Whether somebody has asked for another look since the last step.
        self._news = False
        #: Whether the last step started a batch beside which no other can be started: nobody
        #: waits until it is on the wire.
        self._full = False
        #: What kept the last step from its end, and how often in a row.
        self._trouble: str | None = None
        self._failures = 0
        #: The same if it is not the journal, which is asked itself whether it is well.
        self._error: str | None = None
        self._stepped_at: float | None = None
        self._stopping = False
        self._abandoned = False
        self._thread: threading.Thread | None = None

    def step(self) -> float:
        """Take one turn: settle what has ended, start a batch if a slot is open.

        Return the instant at which the next turn can be of use: now or earlier
        means at once, inf means when there is news.
        """
        # Before anything is looked at: what happens from now on is news.
        self._news = self._full = False
        self._stepped_at = self._clock.monotonic()
        try:
            self._housekeeping.record_overdue()
            due = min(self._turn(self._ended_calls()), self._housekeeping.tidy())
        except StorageUnavailable as error:
            # Stand still, instead of running ahead of the journal.
            return self._failed(str(error), logging.WARNING)
        except Exception as error:  # noqa: BLE001 - the thread must outlive its bugs
            return self._failed(f"{type(error).__name__}: {error}", logging.ERROR, error)
        if self._trouble is not None:
            logs.event("worker_healed")
            self._trouble, self._error, self._failures = None, None, 0
        return due

    def start(self) -> None:
        """Run the steps in a daemon thread from now on."""
        self._thread = threading.Thread(target=self._run, name="ingest-worker", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """Start nothing more, let what is in flight end; return whether that was in time.

        What was not in time is abandoned: the journal knows that it was started
        and not how it ended. May be called twice, and before `start`.
        """
        self._stopping = True
        self.wake()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        self._abandoned = True
        self.wake()
        return not self._thread.is_alive()

    def wake(self) -> None:
        """Take another look: something has changed. From any thread."""
        with self._changed:
            self._news = True
            self._changed.notify()

    @property
    def breaker(self) -> CircuitBreaker:
        """Whether the upstream can be reached, as far as the last batches tell."""
        return self._breaker

    @property
    def state(self) -> WorkerState:
        """How it is, for readers."""
        alive = self._thread is not None and self._thread.is_alive()
        trouble = self._upstream.trouble()
        return WorkerState(alive, self._stopping, self._error, trouble, stepped_at=self._stepped_at)

    def _run(self) -> None:
        while not self._ended():
            self._wait(self.step())

    def _ended(self) -> bool:
        return self._stopping and (self._abandoned or not self._under_way)

    def _wait(self, due: float) -> None:
        ahead = due - self._clock.monotonic()
        if ahead <= 0:
            return
        announced = any(under_way.call.announced for under_way in self._under_way)
        idle = due == math.inf or self._is_idle(due)
        if self._trouble is not None:
            self._sit_out(due)
        elif announced or idle:
            timeout = None if due == math.inf else ahead if idle else min(ahead, SLICE)
            with self._changed:
                self._clock.wait_for(self._changed, self._has_news, timeout)
        else:
            self._clock.sleep(min(ahead, SLICE))

    def _sit_out(self, due: float) -> None:
        """Wait until `due` whatever happens meanwhile, but for a stop."""
        while (ahead := due - self._clock.monotonic()) > 0:
            self._clock.sleep(min(ahead, SLICE))
            if self._stopping:
                return

    def _is_idle(self, due: float) -> bool:
        """Tell whether nothing but housekeeping is due."""
        return not self._under_way and due == self._housekeeping.due

    def _has_news(self) -> bool:
        return self._news or self._ended() or self._next_end() <= self._clock.monotonic()

    def _next_end(self) -> float:
        return min((under_way.call.ends_at() for under_way in self._under_way), default=math.inf)

    def _failed(self, reason: str, level: int, error: BaseException | None = None) -> float:
        if reason != self._trouble:
            logs.event("worker_held", level=level, reason=reason, exc_info=error or False)
        self._trouble, self._error = reason, None if error is None else reason
        self._failures += 1
        pause = SLICE if error is None else SLICE * 2.0 ** min(self._failures - 1, 10)
        return self._clock.monotonic() + min(pause, LONGEST_PAUSE)

    # --- Starting, and settling before it ---

    def _turn(self, ended: Sequence[_UnderWay]) -> float:
        """Settle what has ended and start a batch if a slot is open; return when to look again."""
        if self._stopping:
            taken: Slot | float = math.inf
            for under_way in ended:
                self._settle(under_way)
        else:
            taken = self._take(ended)
        if isinstance(taken, Slot):
            self._full = taken.fills
            self._send(taken)
            # Where another may start beside it, the next turn looks for that.
            return self._next_end() if taken.fills else self._clock.monotonic()
        return min(taken, self._next_end())

    def _take(self, ended: Sequence[_UnderWay]) -> Slot | float:
        decided = [
            (under_way.slot, under_way.decision)
            for under_way in ended
            if under_way.decision is not None
        ]
        try:
            taken = self._dispatch.take(decided)
        except StorageUnavailable:
            raise
        except Exception as error:
            if not ended:
                raise
            # It may be because of one of them: each by itself, and nothing is started yet.
            only = len(ended) == 1
            for under_way in ended:
                self._settle_crashed(under_way, error) if only else self._settle(under_way)
            return self._clock.monotonic()
        for under_way in ended:
            self._under_way.remove(under_way)
        return taken

    def _send(self, slot: Slot) -> None:
        if not self._dispatch.confirm(slot):
            return
        call = self._call(slot)
        under_way = _UnderWay(slot, call)
        self._under_way.append(under_way)
        self._dispatch.called(slot, None if call.announced else call.ends_at())
        self._note_sent(under_way)

    def _call(self, slot: Slot) -> Call:
        news = _News(self.wake, lambda: not self._full)
        news.call = call = begin(self._upstream, slot.batch, news)
        return call

    # --- While it is under way ---

    def _note_sent(self, under_way: _UnderWay) -> None:
        """Tell when the last request so far went out: the upstream sees the pace by these."""
        known, call = under_way.sent_at, under_way.call
        # Once that is known nothing more goes out.
        if (known is not None and known > -math.inf) or call.connecting():
            return
        at = call.sent_at()
        if at != known:
            under_way.sent_at = at
            self._dispatch.sent(under_way.slot, at)

    def _note_holds(self, call: Call) -> None:
        """Obey at once, also while batch mates are under way; a hold counts from its answer."""
        now = self._clock.monotonic()
        until = held_until(call, now, self._retry_policy.max_retry_after)
        if until > now:
            self._dispatch.hold(until)

    # --- Ending ---

    def _ended_calls(self) -> list[_UnderWay]:
        """Return the calls that have ended; what becomes of each is decided once."""
        now = self._clock.monotonic()
        ended = [one for one in self._under_way if one.call.ends_at() <= now]
        # In this order: whatever a call has said by its end is heard before it is settled.
        for under_way in self._under_way:
            self._note_sent(under_way)
            self._note_holds(under_way.call)
        for under_way in ended:
            if under_way.decision is None:
                self._decide(under_way, self._outcomes(under_way))
        return ended

    def _settle(self, under_way: _UnderWay) -> None:
        try:
            self._dispatch.settle(under_way.slot, self._decision(under_way))
        except StorageUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - once more, as a batch that has crashed
            self._settle_crashed(under_way, error)
        else:
            self._under_way.remove(under_way)

    def _settle_crashed(self, under_way: _UnderWay, error: Exception) -> None:
        """Settle a batch as crashed, whatever its outcomes were: they cannot be recorded."""
        self._dispatch.settle(
            under_way.slot, self._decide(under_way, crashed(under_way.slot.batch, error))
        )
        self._under_way.remove(under_way)

    def _decision(self, under_way: _UnderWay) -> Decision:
        return under_way.decision or self._decide(under_way, self._outcomes(under_way))

    def _decide(self, under_way: _UnderWay, outcomes: Sequence[Outcome]) -> Decision:
        slot, now = under_way.slot, self._clock.monotonic()
        ended_at = min(now, max(slot.at, under_way.call.ended_at()))
        under_way.decision = decision = decide(
            slot.batch,
            outcomes,
            self._retry_policy,
            self._breaker,
            interval=slot.interval,
            ended_at=ended_at,
            decided_at=now,
        )
        self._note_breaker(decision.breaker)
        return decision

    def _outcomes(self, under_way: _UnderWay) -> Sequence[Outcome]:
        return outcomes_of(under_way.call, under_way.slot.batch, self._max_response)

    def _note_breaker(self, breaker: CircuitBreaker) -> None:
        if breaker.is_open != self._breaker.is_open:
            level = logging.ERROR if breaker.is_open else logging.INFO
            logs.event("upstream_lost" if breaker.is_open else "upstream_back", level=level)
        self._breaker = breaker
