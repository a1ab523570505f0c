"""A batch whose parts are under way on threads."""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from ingest_service.clock import Clock
from ingest_service.domain.model import Batch, Outcome
from ingest_service.tracebacks import let_go
from ingest_service.upstreams import sending
from ingest_service.upstreams.pool import Task
from ingest_service.upstreams.protocol import OnNews, crashed, requests_to_wait

#: Sends a part and waits for it; what comes back is not trusted.
Send = Callable[[Batch], object]


class _Stage(IntEnum):
    """How far a part has come."""

    WAITING = 0
    CONNECTING = 1
    #: Some of its request may have gone out.
    WRITING = 2
    SENT = 3
    ENDED = 4


@dataclass(slots=True)
class _Part:
    """One call of the connector; once it is sent, changed only under its `ThreadedCall`'s lock."""

    #: The connector's own copy, and how many items it had when it was sent.
    batch: Batch
    size: int
    stage: _Stage = _Stage.WAITING
    #: What was returned or raised.
    end: object = None
    ended_at: float = -math.inf


class _Watch(NamedTuple):
    """Passes on what the connections say about the request of a part."""

    call: "ThreadedCall"
    part: _Part

    def may_begin(self) -> bool:
        return self.call.begin(self.part)

    def sent(self) -> None:
        self.call.note_sent(self.part)


class ThreadedCall:
    """Sends the parts of a batch until `deadline`; what is under way then is given up."""

    announced = True

    def __init__(
        self,
        clock: Clock,
        batch: Batch,
        parts: Sequence[Batch],
        timeout: float,
        on_news: OnNews,
    ) -> None:
        self._clock = clock
        self._batch = batch
        self._timeout = timeout
        #: None once the outcomes were asked for: they are what they were, whatever comes later.
        #: Whoever hears of news mostly has this call: together they would stay, see `let_go`.
        self._on_news: OnNews | None = on_news
        self._lock = threading.Lock()
        self._parts = [_Part(part, len(part.items)) for part in parts]
        #: Parts that are not on the wire, and parts that have not ended.
        self._unsent = self._missing = len(self._parts)
        self._sent_at = -math.inf
        #: What answers asked for: when each came, and for how many seconds.
        self._asked: list[tuple[float, float]] = []
        self.deadline = clock.monotonic() + timeout

    def tasks(self, most: int, send: Send, *, tells: bool) -> list[Task]:
        """Return what sends the parts, at most `most` at the same time.

        `tells` says whether `send` lets `sending` know when a request goes out.
        """

        def task(share: Sequence[_Part]) -> Task:
            return lambda: self._run(share, send, tells)

        count = min(most, len(self._parts))
        return [task(self._parts[first::count]) for first in range(count)]

    def _run(self, share: Sequence[_Part], send: Send, tells: bool) -> None:
        for part in share:
            # It was given up: what is left is sent again, and not twice at a time.
            if self._clock.monotonic() >= self.deadline:
                return
            if tells:
                # Nobody else looks at it before its deadline, or changes it before it is sent.
                part.stage = _Stage.CONNECTING
            elif self.begin(part):
                self.note_sent(part)
            else:
                return
            sending.watch_with(_Watch(self, part))
            try:
                end: object = send(part.batch)
            except BaseException as error:  # noqa: BLE001 - told to the worker by `outcomes`
                # Also a connector's sys.exit(): the thread is needed.
                end = error
            sending.watch_with(None)
            self._advance(part, _Stage.ENDED, end)

    def begin(self, part: _Part) -> bool:
        """Return whether a request may go out; whoever asks writes it at once.

        Under the lock: a part that was given up unsent must never be sent.
        """
        with self._lock:
            now = self._clock.monotonic()
            if now >= self.deadline:
                return False
            self._sent_at = now
            part.stage = max(part.stage, _Stage.WRITING)
        return True

    def note_sent(self, part: _Part) -> None:
        """Take note that the request of a part is on the wire."""
        self._advance(part, _Stage.SENT)

    def _advance(self, part: _Part, stage: _Stage, end: object = None) -> None:
        """Move a part on; tell if the worker has to know."""
        with self._lock:
            on_news = self._on_news
            if on_news is None:
                if isinstance(end, BaseException):
                    let_go(end)
                return
            if stage is _Stage.SENT:
                self._sent_at = self._clock.monotonic()
            on_wire = part.stage < _Stage.SENT <= stage
            part.stage = max(part.stage, stage)
            self._unsent -= on_wire
            news = on_wire and not self._unsent
            if stage is _Stage.ENDED:
                part.end, part.ended_at = _kept(end), self._clock.monotonic()
                self._missing -= 1
                asked = requests_to_wait(part.end, part.ended_at)
                self._asked += asked
                news |= not self._missing or bool(asked)
        if news:
            on_news()

    def connecting(self) -> bool:
        """Return whether a request is not on the wire yet and may still go there."""
        # As below: a single reading needs no lock, and this is asked all the time.
        return self._unsent > 0 and self._clock.monotonic() < self.deadline

    def sent_at(self) -> float:
        """Return when the last request so far went out; -inf before the first."""
        return self._sent_at

    def ends_at(self) -> float:
        """Return when it is given up; -inf once every part has ended."""
        return self.deadline if self._missing else -math.inf

    def ended_at(self) -> float:
        """Return when the last part ended, or when it is given up."""
        with self._lock:
            last = max((part.ended_at for part in self._parts), default=-math.inf)
            return self.deadline if self._missing else last

    def retry_after(self) -> Sequence[tuple[float, float]]:
        """Return what the answers so far asked for, an entry an answer."""
        with self._lock:
            return list(self._asked)

    def outcomes(self) -> Sequence[Outcome]:
        """Return the outcomes of all parts; a part that is late counts as failed."""
        with self._lock:
            self._on_news = None
            ends = [(part.size, part.stage, part.end) for part in self._parts]
        return [outcome for end in ends for outcome in self._outcomes_of(*end)]

    def _outcomes_of(self, size: int, stage: _Stage, end: object) -> Sequence[Outcome]:
        if stage is not _Stage.ENDED:
            return [self._late(stage)] * size
        if not isinstance(end, BaseException):
            if not isinstance(end, tuple) or len(end) != size:
                end = TypeError("not one outcome an item")
            elif not all(isinstance(outcome, Outcome) for outcome in end):
                end = TypeError("not an outcome")
            else:
                return end
        return crashed(self._batch, end)[:size]

    def _late(self, stage: _Stage) -> Outcome:
        reason = f"The upstream did not answer within {self._timeout:g} s."
        if stage is _Stage.CONNECTING:
            reason = f"The upstream cannot be reached: no connection within {self._timeout:g} s."
        if stage is _Stage.WAITING:
            reason = f"Earlier items took all of the {self._timeout:g} s."
        return Outcome(
            succeeded=False,
            error=reason,
            transient=True,
            unreachable=stage is _Stage.CONNECTING,
            unsent=stage is _Stage.WAITING,
        )


def _kept(end: object) -> object:
    """Return a list as it is now: a connector may go on to change it."""
    return tuple(end) if isinstance(end, list | tuple) else end
