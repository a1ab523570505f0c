"""When one ingestion is served, if nothing changes: arithmetic on sums, however much waits.

For the strict and the weighted policy; the aged one has to be walked through, see `runs`.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Protocol

from ingest_service.domain.model import Priority
from ingest_service.domain.policy import CYCLE, Policy, QueueEntry
from ingest_service.domain.runs import Moment, latest_finish
from ingest_service.domain.slot_times import SlotTimes
from ingest_service.domain.snapshot import Forecast, PendingRetry

#: Most urgent first.
_CLASSES = tuple(Priority)


class Sums(Protocol):
    """Sums over what is ready in each class, in the order of arrival."""

    def total(self, priority: Priority) -> tuple[int, int]:
        """Return how many ingestions of a class are ready, and their batches."""
        ...

    def before(self, priority: Priority, sequence: int) -> tuple[int, int]:
        """Return how many ingestions with a smaller sequence are ready, and their batches."""
        ...

    def batches(self, priority: Priority, sequence: int) -> int:
        """Return how many batches of one ingestion are ready."""
        ...

    def ingestions_within(self, priority: Priority, after: int, batches: int) -> int:
        """Return to how many ingestions the first `batches` batches behind `after` belong."""
        ...


@dataclass(slots=True)
class _Group:
    """A stretch of a class's line, or a single ingestion in it."""

    #: The sequence before its first ingestion; of a single one, its own.
    after: int
    left: int
    #: Whether it is a single ingestion, one that is asked for or has retries to come.
    single: bool
    served: int = 0


class _Line:
    """The line of a class, cut where something will join it and at the one asked for."""

    def __init__(self, sums: Sums, priority: Priority, cuts: Iterable[int]) -> None:
        self.groups: list[_Group] = []
        self._cuts = sorted(cuts)
        after, counted = -1, 0
        for sequence in self._cuts:
            _, before = sums.before(priority, sequence)
            own = sums.batches(priority, sequence)
            self.groups.append(_Group(after, before - counted, single=False))
            self.groups.append(_Group(sequence, own, single=True))
            after, counted = sequence, before + own
        self.groups.append(_Group(after, sums.total(priority)[1] - counted, single=False))
        self.left = sum(group.left for group in self.groups)
        self._head = 0

    def single(self, sequence: int) -> _Group:
        """Return the group of an ingestion at which the line was cut."""
        return self.groups[self._index(sequence)]

    def head(self) -> _Group:
        """Return the first group with something left; there is one."""
        while not self.groups[self._head].left:
            self._head += 1
        return self.groups[self._head]

    def join(self, sequence: int, batches: int = 1) -> None:
        """Add batches of an ingestion at which the line was cut."""
        index = self._index(sequence)
        self.groups[index].left += batches
        self.left += batches
        self._head = min(self._head, index)

    def serve(self, batches: int) -> None:
        """Take batches from the first group, which has as many."""
        group = self.head()
        group.left -= batches
        group.served += batches
        self.left -= batches

    def _index(self, sequence: int) -> int:
        # Singles stand at the odd places, in order.
        return 1 + 2 * bisect_left(self._cuts, sequence)


def forecast(
    moment: Moment, sums: Sums, retries: Sequence[PendingRetry], target: QueueEntry, joining: int
) -> Forecast | None:
    """Return when `target` is served; None if it does not wait, or nobody can tell.

    `joining` is how many batches it would add as a newcomer; 0 if it is there already.
    Not for the aged policy.
    """
    if math.isinf(moment.model.opens_at):
        return None
    if moment.rule.policy is Policy.STRICT:
        mine = target.priority, target.sequence
        ahead = [(retry.entry.priority, retry.entry.sequence) <= mine for retry in retries]
        if not any(ahead):
            return _in_line(moment, sums, target, joining)
        # What has a worse place takes a slot only while one of these is not due.
        last = max(retry.due for retry in compress(retries, ahead))
        retries = [
            retry
            for retry, is_ahead in zip(retries, ahead, strict=True)
            if is_ahead or retry.due < last
        ]
    return _Prediction(moment, sums, retries, target, joining).run()


def _in_line(moment: Moment, sums: Sums, target: QueueEntry, joining: int) -> Forecast | None:
    """Add up what has a better place: all of it goes first, and nothing else does."""
    own = joining or target.batches
    if not own:
        return None
    ingestions, batches = sums.before(target.priority, target.sequence)
    for priority in _CLASSES[: target.priority - 1]:
        more_urgent, their_batches = sums.total(priority)
        ingestions += more_urgent
        batches += their_batches
    times = SlotTimes(moment.model, moment.now)
    return Forecast(
        position=1 + ingestions,
        batches_ahead=batches,
        next_start_at=times.at(batches),
        finish_at=times.at(batches + own - 1) + moment.model.duration,
        latest_finish_at=None,
    )


class _Prediction:
    """Slots served in runs, until everything of one ingestion was."""

    def __init__(
        self,
        moment: Moment,
        sums: Sums,
        retries: Sequence[PendingRetry],
        target: QueueEntry,
        joining: int,
    ) -> None:
        self._moment, self._sums, self._target = moment, sums, target
        self._retries = retries
        self._times = SlotTimes(moment.model, moment.now)
        self._joins = deque(sorted(retries))
        cuts: dict[Priority, set[int]] = {priority: set() for priority in Priority}
        for retry in retries:
            cuts[retry.entry.priority].add(retry.entry.sequence)
        cuts[target.priority].add(target.sequence)
        self._lines = {priority: _Line(sums, priority, cuts[priority]) for priority in Priority}
        if joining:
            self._lines[target.priority].join(target.sequence, joining)
        self._own = self._lines[target.priority].single(target.sequence)
        self._ready = self._own.left
        groups = self._lines[target.priority].groups
        #: How many batches its class has ready up to its own last one.
        self._up_to_own = sum(group.left for group in groups[: 1 + groups.index(self._own)])
        self._later = sum(retry.entry.sequence == target.sequence for retry in retries)
        self._number = 0

    def run(self) -> Forecast | None:
        wanted = self._ready + self._later
        if not wanted:
            return None
        first: tuple[int, float] | None = None
        position = 0
        last_at = 0.0
        while self._own.served < wanted:
            at = self._open()
            line, batches = self._next_run(first is not None)
            if line.head() is self._own:
                if first is None:
                    first, position = (self._number, at), self._position()
                last_at = self._times.at(self._number + batches - 1)
            self._serve(line, batches)
        if first is None:
            return None
        return Forecast(
            position=position,
            batches_ahead=first[0],
            next_start_at=first[1],
            finish_at=last_at + self._moment.model.duration,
            latest_finish_at=self._latest(),
        )

    def _open(self) -> float:
        """Return when the next slot opens, after everything joined that is due by then."""
        if not any(line.left for line in self._lines.values()):
            self._times.delay(self._number, self._joins[0].due)
        at = self._times.at(self._number)
        while self._joins and self._joins[0].due <= at:
            entry = self._joins.popleft().entry
            self._lines[entry.priority].join(entry.sequence)
        return at

    def _next_run(self, begun: bool) -> tuple[_Line, int]:
        """Return which line the next slots serve, and how many of them; cycles are skipped."""
        while True:
            waiting = [priority for priority in Priority if self._lines[priority].left]
            if self._moment.rule.policy is Policy.WEIGHTED and len(waiting) > 1:
                if self._skip_cycles(waiting, begun):
                    continue
                turn = CYCLE[(self._moment.slot + self._number) % len(CYCLE)]
                return self._lines[turn if turn in waiting else waiting[0]], 1
            line = self._lines[waiting[0]]
            return line, self._before_next_join(line.head().left)

    def _skip_cycles(self, waiting: Sequence[Priority], begun: bool) -> bool:
        """Serve whole cycles in which every line stays within its first group."""
        served = [turn if turn in waiting else waiting[0] for turn in CYCLE]
        shares = {priority: served.count(priority) for priority in waiting}
        heads = {priority: self._lines[priority].head() for priority in waiting}
        if not begun and heads.get(self._target.priority) is self._own:
            return False
        cycles = min(
            (heads[priority].left - 1) // share for priority, share in shares.items() if share
        )
        if cycles:
            cycles = self._before_next_join(cycles * len(CYCLE)) // len(CYCLE)
        if cycles <= 0:
            return False
        for priority, share in shares.items():
            if share:
                self._lines[priority].serve(cycles * share)
        self._number += cycles * len(CYCLE)
        return True

    def _before_next_join(self, most: int) -> int:
        if not self._joins:
            return most
        return self._times.count_before(self._joins[0].due, self._number, most)

    def _serve(self, line: _Line, batches: int) -> None:
        line.serve(batches)
        self._number += batches

    def _position(self) -> int:
        """Return the place among ingestions: how many others were served before, plus 1."""
        return 1 + sum(
            1 if group.single else self._sums.ingestions_within(priority, group.after, group.served)
            for priority, line in self._lines.items()
            for group in line.groups
            if group.served and group is not self._own
        )

    def _latest(self) -> float | None:
        """Return when its last batch ends if from now on every class always has something."""
        if not self._ready:
            return None
        priority, sequence = self._target.priority, self._target.sequence
        return latest_finish(self._moment, priority, sequence, self._up_to_own, self._retries)
