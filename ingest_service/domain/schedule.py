"""What is sent next, and when: pure functions of a snapshot, no clock, no I/O, no lock.

The worker asks `choose` what the open slot serves; every prediction repeats the
same question for the slots to come, so it cannot disagree with what happens.
"""

import heapq
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain, islice
from operator import attrgetter
from typing import NamedTuple

from ingest_service.domain.model import Ingestion, Priority

#: The classes of twelve slots under the weighted policy, 8:3:1, spread evenly.
CYCLE = tuple(Priority[{"H": "HIGH", "M": "MEDIUM", "L": "LOW"}[each]] for each in "HHMHHLHHMHHM")
#: How many slots a prediction looks ahead where it has to go through them one by one.
HORIZON = 20_000


_by_arrival = attrgetter("sequence")


class Policy(StrEnum):
    """Who is served when several classes wait."""

    #: HIGH before MEDIUM before LOW, always.
    STRICT = "strict"
    #: As strict, but waiting raises the class.
    AGED = "aged"
    #: 8 of 12 slots for HIGH, 3 for MEDIUM, 1 for LOW; what a class does not need, others get.
    WEIGHTED = "weighted"


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy with its number."""

    policy: Policy = Policy.STRICT
    #: Seconds of waiting that raise the class by one, under `AGED`.
    aged_after: float = 600.0


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A place in the line: class first, then order of arrival.

    Ties are broken by a counter; under a frozen clock all times are equal.
    """

    priority: int
    sequence: int
    ingestion: Ingestion = field(compare=False)
    #: Since when the ingestion has been waiting (monotonic).
    since: float = field(compare=False)
    #: When it joined; -inf if nothing has to settle because of it.
    put_at: float = field(compare=False)
    #: Which of its ingestion's offsets this is, see `Ingestion.moves`.
    move: int = field(compare=False, default=0)

    @property
    def stale(self) -> bool:
        """Whether the ingestion has another place by now, or needs none."""
        return self.move != self.ingestion.moves or not self.ingestion.left


#: What waits, class by class, most urgent first; in no order within a class.
Classes = tuple[list[Entry], ...]


class Due(NamedTuple):
    """A batch that joins the line later, for another attempt."""

    at: float
    entry: Entry


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When slots open, if there is always something to send."""

    #: The first slot, as far as the pace is concerned.
    opens_at: float
    interval: float
    #: How long a batch takes, as far as one can tell.
    duration: float
    concurrent: int
    #: When the batches under way will have ended, as far as one can tell.
    ends: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that decides what happens next, at one moment."""

    now: float
    rule: Rule
    rhythm: Rhythm
    #: How many slots were ever taken.
    slot: int
    #: Without stale entries.
    classes: Classes
    #: The first of each class.
    heads: Sequence[Entry] = ()
    retries: Sequence[Due] = ()

    @property
    def has_times(self) -> bool:
        """Whether anybody knows when slots open; of a paused queue nobody does."""
        return self.rhythm.opens_at < math.inf

    @property
    def line(self) -> Iterator[Entry]:
        """What waits, in no order."""
        return chain.from_iterable(self.classes)


class Slot(NamedTuple):
    """A slot to come."""

    at: float
    entry: Entry


@dataclass(frozen=True, slots=True)
class Forecast:
    """When an ingestion is served, if nothing changes; instants are monotonic."""

    #: Its place among the ingestions that wait, from 1.
    position: int
    batches_ahead: int
    next_start_at: float
    finish_at: float
    #: When it is finished at the latest, whatever arrives later; None if that can be never.
    latest_finish_at: float | None


def choose(heads: Sequence[Entry], rule: Rule, slot: int, at: float) -> int:
    """Return which of `heads` slot number `slot`, open at `at`, serves.

    `heads` are the first of each class; there is at least one.
    """
    if rule.policy is Policy.WEIGHTED:
        turn = CYCLE[slot % len(CYCLE)]
        for index, head in enumerate(heads):
            if head.priority == turn:
                return index
    return min(range(len(heads)), key=lambda index: _rank(heads[index], rule, at))


def _rank(head: Entry, rule: Rule, at: float) -> tuple[int, int]:
    raised = 0
    if rule.policy is Policy.AGED:
        raised = int(max(0.0, at - head.since) // rule.aged_after)
    return max(int(Priority.HIGH), head.priority - raised), head.sequence


def slots(situation: Situation) -> Iterator[Slot]:
    """Yield the slots to come until nothing is left, if nothing new arrives and all goes well."""
    if not situation.has_times:
        return
    queues = _Queues(situation.classes)
    retries = sorted(situation.retries)
    retries.reverse()
    times = _Times(situation.rhythm, situation.now)
    slot = situation.slot
    while True:
        at = times.earliest()
        if not queues:
            if not retries:
                return
            at = max(at, retries[-1].at)
        while retries and retries[-1].at <= at:
            queues.join(retries.pop().entry)
        heads = queues.heads()
        entry = heads[choose(heads, situation.rule, slot, at)]
        queues.serve(entry)
        times.take(at)
        slot += 1
        yield Slot(at, entry)


class _Queues:
    """The line, a queue of (entry, batches left) a class."""

    def __init__(self, classes: Classes) -> None:
        self._queues: dict[int, deque[tuple[Entry, int]]] = {
            priority: deque((each, each.ingestion.left) for each in sorted(line, key=_by_arrival))
            for priority, line in zip(Priority, classes, strict=True)
        }

    def __bool__(self) -> bool:
        return any(self._queues.values())

    def heads(self) -> list[Entry]:
        return [queue[0][0] for queue in self._queues.values() if queue]

    def join(self, entry: Entry) -> None:
        """Put a batch that is due in its place, before what its ingestion has left."""
        queue = self._queues[entry.priority]
        later = (at for at, (each, _) in enumerate(queue) if each.sequence >= entry.sequence)
        queue.insert(next(later, len(queue)), (entry, 1))

    def serve(self, entry: Entry) -> None:
        queue = self._queues[entry.priority]
        _, left = queue.popleft()
        if left > 1:
            queue.appendleft((entry, left - 1))


class _Times:
    """Instants of slots, one after the other."""

    def __init__(self, rhythm: Rhythm, now: float) -> None:
        self._rhythm = rhythm
        self._opens_at = max(rhythm.opens_at, now)
        self._ends = sorted(max(end, now) for end in rhythm.ends)

    def earliest(self) -> float:
        """Return when the next slot opens."""
        if len(self._ends) < self._rhythm.concurrent:
            return self._opens_at
        return max(self._opens_at, self._ends[len(self._ends) - self._rhythm.concurrent])

    def take(self, at: float) -> None:
        """Spend it at `at`."""
        while self._ends and self._ends[0] <= at:
            heapq.heappop(self._ends)
        heapq.heappush(self._ends, at + self._rhythm.duration)
        self._opens_at = at + self._rhythm.interval


def slot_at(rhythm: Rhythm, now: float, number: int) -> float:
    """Return when slot `number`, from 0, opens if there is always something to send."""
    times = _Times(rhythm, now)
    found = []
    for _ in range(min(number, 4 * rhythm.concurrent) + 1):
        found.append(times.earliest())
        times.take(found[-1])
    if number < len(found):
        return found[number]
    # From here on the same pattern of as many slots as may be under way repeats itself.
    period = max(rhythm.concurrent * rhythm.interval, rhythm.duration)
    rounds, place = divmod(number - (len(found) - rhythm.concurrent), rhythm.concurrent)
    return found[len(found) - rhythm.concurrent + place] + rounds * period


def forecast(situation: Situation, ingestion: Ingestion) -> Forecast | None:
    """Return when an ingestion is served; None if it does not wait, or nobody can tell."""
    if not situation.has_times:
        return None
    later = [each for each in situation.retries if each.entry.ingestion is ingestion]
    if not ingestion.left and not later:
        return None
    if situation.rule.policy is Policy.STRICT and not later:
        return _forecast_strict(situation, ingestion)
    return _forecast_by_slots(situation, ingestion, len(later))


def _forecast_strict(situation: Situation, ingestion: Ingestion) -> Forecast:
    """Add up what `slots` goes through one by one: everything with a better place goes first."""
    rhythm, now, sequence = situation.rhythm, situation.now, ingestion.sequence
    *above, own = situation.classes[: ingestion.priority]
    ahead = [each.ingestion.left for line in above for each in line]
    ahead += [each.ingestion.left for each in own if each.sequence < sequence]
    first = _shifted(situation, ingestion, sum(ahead))
    last = _shifted(situation, ingestion, sum(ahead) + ingestion.left - 1)
    return Forecast(
        position=len(ahead) + 1,
        batches_ahead=first,
        next_start_at=slot_at(rhythm, now, first),
        finish_at=slot_at(rhythm, now, last) + rhythm.duration,
        latest_finish_at=None,
    )


def _shifted(situation: Situation, ingestion: Ingestion, number: int) -> int:
    """Return the number of a slot after those of retries that will be due and go first."""
    mine = ingestion.priority, ingestion.sequence
    due = [
        each.at for each in situation.retries if (each.entry.priority, each.entry.sequence) < mine
    ]
    shifted = number
    while due:
        at = slot_at(situation.rhythm, situation.now, shifted)
        before = number + sum(each <= at for each in due)
        if before == shifted:
            break
        shifted = before
    return shifted


def _forecast_by_slots(situation: Situation, ingestion: Ingestion, later: int) -> Forecast | None:
    wanted = ingestion.left + later
    before: set[int] = set()
    first: tuple[int, float] | None = None
    for number, (at, entry) in enumerate(islice(slots(situation), HORIZON)):
        if entry.ingestion is ingestion:
            first = first or (number, at)
            wanted -= 1
        elif first is None:
            before.add(entry.sequence)
        if first is not None and not wanted:
            return Forecast(
                position=len(before) + 1,
                batches_ahead=first[0],
                next_start_at=first[1],
                finish_at=at + situation.rhythm.duration,
                latest_finish_at=_latest_finish(situation, ingestion),
            )
    return None


def _latest_finish(situation: Situation, ingestion: Ingestion) -> float | None:
    """Return when its last batch ends if from now on every class always has something to send."""
    if situation.rule.policy is not Policy.WEIGHTED or not ingestion.left:
        return None
    priority, sequence = ingestion.priority, ingestion.sequence
    own = situation.classes[priority - 1]
    left = sum(each.ingestion.left for each in own if each.sequence <= sequence)
    left += sum(
        each.entry.priority == priority and each.entry.sequence <= sequence
        for each in situation.retries
    )
    turns = CYCLE.count(priority)
    # Whole cycles first, then the slots of the last one.
    rounds = (left - 1) // turns
    left -= rounds * turns
    number = -1
    while left:
        number += 1
        left -= CYCLE[(situation.slot + number) % len(CYCLE)] == priority
    last = rounds * len(CYCLE) + number
    return slot_at(situation.rhythm, situation.now, last) + situation.rhythm.duration


def last_starts(situation: Situation) -> dict[str, float]:
    """Return when the last batch of each waiting ingestion starts, as far as one can see ahead."""
    if situation.has_times and situation.rule.policy is Policy.STRICT and not situation.retries:
        number, found = -1, {}
        for entry in sorted(situation.line):
            number += entry.ingestion.left
            found[entry.ingestion.ingestion_id] = slot_at(situation.rhythm, situation.now, number)
        return found
    coming = islice(slots(situation), HORIZON)
    return {slot.entry.ingestion.ingestion_id: slot.at for slot in coming}


def upcoming(situation: Situation, count: int) -> list[Slot]:
    """Return the next `count` slots; sorts no more of the line than that takes."""
    front = tuple(heapq.nsmallest(count, line, key=_by_arrival) for line in situation.classes)
    return list(islice(slots(replace(situation, classes=front)), count))


def slots_until_started(line: Iterable[tuple[int, int]], items: int) -> int:
    """Return after how many slots `items` items of `line` will have been started.

    `line` has (items, batch size) in the order of service.
    """
    taken = 0
    for size, batch_size in line:
        if items <= 0:
            break
        taken += math.ceil(min(size, items) / batch_size)
        items -= size
    return taken
