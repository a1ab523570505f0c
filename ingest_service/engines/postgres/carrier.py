"""Carrying a batch: from the confirmation of its slot to its end on record."""

import logging
import math
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from ingest_service import logs
from ingest_service.clock import Clock
from ingest_service.domain.model import Outcome
from ingest_service.domain.retry_policy import CircuitBreaker, RetryPolicy
from ingest_service.domain.settlement import Decision, decide
from ingest_service.engines import Slot
from ingest_service.engines.calls import begin, held_until, outcomes_of
from ingest_service.engines.postgres.dispatch import CONNECTING, PostgresDispatch
from ingest_service.errors import StorageUnavailable
from ingest_service.upstreams.protocol import Call, Upstream, crashed

T = TypeVar("T")

#: Seconds between two tries to record the end of a batch.
_AGAIN_AFTER = 0.25


class Carrier:
    """Sends the batches of slots; each process has one."""

    def __init__(
        self,
        clock: Clock,
        dispatch: PostgresDispatch,
        upstream: Upstream,
        retry_policy: RetryPolicy,
        max_response: int,
    ) -> None:
        self.clock = clock
        self.dispatch = dispatch
        self.upstream = upstream
        self.retry_policy = retry_policy
        self.max_response = max_response
        self._carried: set[int] = set()

    @property
    def busy(self) -> int:
        """How many batches are carried now."""
        return len(self._carried)

    def carry(self, start: int) -> None:
        """Send the batch of `start`, unless it was given back; return when it is settled."""
        self._carried.add(start)
        try:
            self._carry(start)
        except Exception as error:  # noqa: BLE001 - a bug must not leave a start without an end
            logs.event("worker_held", level=logging.ERROR, reason=str(error), exc_info=error)
            self._until_recorded(lambda: self.dispatch.lose(start))
        finally:
            self._carried.discard(start)

    def begin(self, slot: Slot) -> "BatchUnderWay | None":
        """Call the upstream if the slot is still there."""
        if not self.dispatch.confirm(slot):
            return None
        under_way = BatchUnderWay(self, slot)
        under_way.call()
        return under_way

    def _carry(self, start: int) -> None:
        slot = self._until_recorded(lambda: self.dispatch.fetch(start))
        if slot is None:
            return
        try:
            under_way = self.begin(slot)
        except StorageUnavailable:
            # Nobody knows whether it was confirmed; it was not sent.
            self._until_recorded(lambda: self.dispatch.give_back(slot))
            return
        while under_way is not None and (due := under_way.turn()) > -math.inf:
            under_way.wait(due)

    def _until_recorded(self, act: Callable[[], T]) -> T:
        while True:
            try:
                return act()
            except StorageUnavailable:
                self.clock.sleep(_AGAIN_AFTER)


class BatchUnderWay:
    """A batch that the upstream has."""

    def __init__(self, carrier: Carrier, slot: Slot) -> None:
        self.slot = slot
        self._carrier = carrier
        self._changed = threading.Condition()
        self._news = False
        self._call: Call | None = None
        #: When its last request went out, as far as was told, and until when the slot is kept.
        self._sent_at: float | None = None
        self._called = False
        self._kept_until = -math.inf
        self._held_until = -math.inf
        self._outcomes: Sequence[Outcome] | None = None
        #: Whether the database could not be used at the last turn.
        self._failed = False

    def call(self) -> None:
        """Call the upstream."""
        carrier = self._carrier
        self._call = begin(carrier.upstream, self.slot.batch, self._wake)

    def turn(self) -> float:
        """Tell what is new; settle it if it has ended.

        Return the instant at which to look again, -inf once it is settled.
        """
        self._news = False
        try:
            due = self._turn()
        except StorageUnavailable as error:
            if not self._failed:
                logs.event("worker_held", level=logging.WARNING, reason=str(error))
            self._failed = True
            return self._carrier.clock.monotonic() + _AGAIN_AFTER
        if self._failed:
            logs.event("worker_healed")
        self._failed = False
        return due

    def wait(self, due: float) -> None:
        """Wait until `due`, or until there is news."""
        clock = self._carrier.clock
        with self._changed:
            clock.wait_for(
                self._changed,
                lambda: self._news and not self._failed,
                max(0.0, due - clock.monotonic()),
            )

    def _wake(self) -> None:
        with self._changed:
            self._news = True
            self._changed.notify_all()

    def _turn(self) -> float:
        call, now = self._call, self._carrier.clock.monotonic()
        assert call is not None  # noqa: S101 - called before
        ended = call.ends_at() <= now
        self._note_called(call)
        self._note_sent(call)
        self._note_holds(call)
        if not ended:
            return self._look_again(call, now)
        self._settle(call)
        return -math.inf

    def _look_again(self, call: Call, now: float) -> float:
        # It may have ended since that was looked at: then at once.
        ends_at = max(now, call.ends_at())
        return min(ends_at, now + CONNECTING / 2) if call.connecting() else ends_at

    def _note_called(self, call: Call) -> None:
        now = self._carrier.clock.monotonic()
        if now < self._kept_until or (self._called and not call.connecting()):
            return
        self._carrier.dispatch.called(self.slot, None if call.announced else call.ends_at())
        self._called, self._kept_until = True, now + CONNECTING / 2

    def _note_sent(self, call: Call) -> None:
        if call.connecting():
            return
        at = call.sent_at()
        if at != self._sent_at:
            self._carrier.dispatch.sent(self.slot, at)
            self._sent_at = at

    def _note_holds(self, call: Call) -> None:
        """Obey at once, also while batch mates are under way; a hold counts from its answer."""
        now = self._carrier.clock.monotonic()
        until = held_until(call, now, self._carrier.retry_policy.max_retry_after)
        if until > max(now, self._held_until):
            self._carrier.dispatch.hold(until)
            self._held_until = until

    def _settle(self, call: Call) -> None:
        carrier, batch = self._carrier, self.slot.batch
        if self._outcomes is None:
            self._outcomes = outcomes_of(call, batch, carrier.max_response)
        try:
            carrier.dispatch.end(self.slot, self._decide(call, self._outcomes))
        except StorageUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - once more, as a batch that has crashed
            self._outcomes = crashed(batch, error)
            carrier.dispatch.end(self.slot, self._decide(call, self._outcomes))

    def _decide(
        self, call: Call, outcomes: Sequence[Outcome]
    ) -> Callable[[CircuitBreaker], Decision]:
        now = self._carrier.clock.monotonic()

        def decision(breaker: CircuitBreaker) -> Decision:
            return decide(
                self.slot.batch,
                outcomes,
                self._carrier.retry_policy,
                breaker,
                interval=self.slot.interval,
                ended_at=min(now, max(self.slot.at, call.ended_at())),
                decided_at=now,
            )

        return decision
