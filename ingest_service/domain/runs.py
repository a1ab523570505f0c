"""What is sent when, if nothing changes: every slot to come, in runs of the same ingestion.

The engine asks `choose` what the open slot serves; every prediction repeats the
same question for the slots to come, so it cannot disagree with what happens.
"""

import math
from bisect import insort
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from ingest_service.domain.model import Priority
from ingest_service.domain.policy import CYCLE, Policy, QueueEntry, Rule, choose, steps
from ingest_service.domain.slot_times import SlotModel, SlotTimes
from ingest_service.domain.snapshot import Forecast, PendingRetry, QueueSnapshot

#: What waits, a line a class, most urgent class first, in order of arrival.
Lines = Sequence[Sequence[QueueEntry]]
#: How many slots the effect of a move is followed where classes alternate.
HORIZON = 20_000


class Moment(NamedTuple):
    """When something is asked."""

    now: float
    rule: Rule
    model: SlotModel
    #: The number of the next slot, from 0.
    slot: int

    @classmethod
    def of(cls, snapshot: QueueSnapshot) -> "Moment":
        """Return the moment of a snapshot."""
        return cls(snapshot.now, snapshot.rule, snapshot.model, snapshot.slots)


class Run(NamedTuple):
    """Slots in a row that serve the same ingestion."""

    #: Of the first of them, from 0.
    number: int
    first_at: float
    last_at: float
    batches: int
    entry: QueueEntry


def runs(moment: Moment, lines: Lines, retries: Sequence[PendingRetry]) -> Iterator[Run]:
    """Yield what the slots to come serve, until nothing is left."""
    if math.isinf(moment.model.opens_at):
        return
    queues = [deque(line) for line in lines]
    joins = deque(sorted(retries))
    times = SlotTimes(moment.model, moment.now)
    number = 0
    while True:
        if not any(queues):
            if not joins:
                return
            times.delay(number, joins[0].due)
        at = times.at(number)
        while joins and joins[0].due <= at:
            _join(queues[joins[0].entry.priority - 1], joins.popleft().entry)
        heads = [queue[0] for queue in queues if queue]
        entry = heads[choose(heads, moment.rule, moment.slot + number, at)]
        queue = queues[entry.priority - 1]
        until = min(_next_step(heads, moment.rule, at), joins[0].due if joins else math.inf)
        alternating = moment.rule.policy is Policy.WEIGHTED and len(heads) > 1
        most = 1 if alternating else entry.batches
        count = most if most == 1 or math.isinf(until) else times.count_before(until, number, most)
        queue.popleft()
        if entry.batches > count:
            queue.appendleft(entry._replace(batches=entry.batches - count))
        yield Run(number, at, times.at(number + count - 1), count, entry)
        number += count


def _join(queue: deque[QueueEntry], entry: QueueEntry) -> None:
    """Put a batch that is due in its place, before what its ingestion has left."""
    later = (at for at, other in enumerate(queue) if other.sequence >= entry.sequence)
    queue.insert(next(later, len(queue)), entry)


def _next_step(heads: Sequence[QueueEntry], rule: Rule, at: float) -> float:
    """Return when waiting raises the class of one of `heads` next."""
    if rule.policy is not Policy.AGED:
        return math.inf
    return min(
        (
            head.since + (raised + 1) * rule.aged_after
            for head in heads
            if head.priority - (raised := steps(head, rule, at)) > Priority.HIGH
        ),
        default=math.inf,
    )


def slots_ahead(
    moment: Moment, lines: Lines, retries: Sequence[PendingRetry]
) -> Iterator[tuple[float, QueueEntry]]:
    """Yield the slots to come one by one: when, and what each serves."""
    times = SlotTimes(moment.model, moment.now)
    for run in runs(moment, lines, retries):
        if run.batches > 1:
            # Within a run nothing is missing, so the slots follow one another as they always do;
            # what a gap before it has shifted shifts all of them.
            times.delay(run.number, run.first_at)
        yield run.first_at, run.entry
        for number in range(run.number + 1, run.number + run.batches):
            yield times.at(number), run.entry


def upcoming(snapshot: QueueSnapshot, count: int) -> list[tuple[float, QueueEntry]]:
    """Return the next `count` slots as far as the front of the queue tells: (when, what)."""
    ahead = slots_ahead(Moment.of(snapshot), snapshot.front, snapshot.retries)
    return list(islice(ahead, count))


def next_served(snapshot: QueueSnapshot) -> QueueEntry | None:
    """Return what the next slot serves, retries that are due by then included."""
    heads = snapshot.heads
    if heads and not snapshot.retries and snapshot.has_times:
        if len(heads) == 1:
            return heads[0]
        at = SlotTimes(snapshot.model, snapshot.now).at(0)
        return heads[choose(heads, snapshot.rule, snapshot.slots, at)]
    firsts = [line[:1] for line in snapshot.front]
    first = next(runs(Moment.of(snapshot), firsts, snapshot.retries), None)
    return first and first.entry


def walked(moment: Moment, lines: Lines, retries: Sequence[PendingRetry]) -> dict[int, Forecast]:
    """Return the forecast of everything that waits, by sequence, under any policy."""
    forecasts: dict[int, Forecast] = {}
    for run in runs(moment, lines, retries):
        finish_at = run.last_at + moment.model.duration
        begun = forecasts.get(run.entry.sequence)
        position = len(forecasts) + 1
        forecasts[run.entry.sequence] = Forecast(
            begun.position if begun else position,
            begun.batches_ahead if begun else run.number,
            begun.next_start_at if begun else run.first_at,
            finish_at,
            None,
        )
    return forecasts


def latest_finish(
    moment: Moment,
    priority: Priority,
    sequence: int,
    batches: int,
    retries: Sequence[PendingRetry],
) -> float | None:
    """Return when an ingestion ends if from now on every class always has something.

    `batches` is how many its class has ready up to its own last one. None if that may be never.
    """
    if moment.rule.policy is not Policy.WEIGHTED:
        return None
    line = [each for each in retries if each.entry.priority == priority]
    ahead = [each for each in line if each.entry.sequence <= sequence]
    due = max((each.due for each in ahead if each.entry.sequence == sequence), default=-math.inf)
    times, turns = SlotTimes(moment.model, moment.now), CYCLE.count(priority)
    # Its own that is not due yet stands in line then, behind as many as there are.
    first = times.count_before(due, 0, HORIZON)
    # Whole cycles first, then the slots of the last one.
    rounds, left = divmod(batches + len(ahead) - 1, turns)
    number = first + rounds * len(CYCLE) - 1
    while left >= 0:
        number += 1
        left -= CYCLE[(moment.slot + number) % len(CYCLE)] == priority
    return max(times.at(number), due) + moment.model.duration


def as_if_moved(
    snapshot: QueueSnapshot, lines: Lines, priority: Priority
) -> tuple[QueueSnapshot, Lines]:
    """Return a queue, and what waits in it, as if its place were one in another class."""
    place = snapshot.place
    if place is None or place.priority is priority:
        return snapshot, lines
    rest: list[list[QueueEntry]] = []
    moved: list[QueueEntry] = []
    for line in lines:
        rest.append([entry for entry in line if entry.sequence != place.sequence])
        moved += [entry for entry in line if entry.sequence == place.sequence]
    for entry in moved:
        insort(rest[priority - 1], entry._replace(priority=priority), key=_by_sequence)
    retries = tuple(
        retry._replace(entry=retry.entry._replace(priority=priority))
        if retry.entry.sequence == place.sequence
        else retry
        for retry in snapshot.retries
    )
    moment = Moment.of(snapshot)
    ahead = walked(moment, rest, retries).get(place.sequence)
    if ahead is not None and place.batches:
        line = rest[priority - 1]
        batches = sum(entry.batches for entry in line if entry.sequence <= place.sequence)
        latest = latest_finish(moment, priority, place.sequence, batches, retries)
        ahead = ahead._replace(latest_finish_at=latest)
    place = place._replace(priority=priority, forecast=ahead)
    return snapshot._replace(retries=retries, place=place), rest


def _by_sequence(entry: QueueEntry) -> int:
    return entry.sequence


def last_starts(moment: Moment, lines: Lines, retries: Sequence[PendingRetry]) -> dict[int, float]:
    """Return when the last batch of each waiting ingestion starts, as far as one can see ahead."""
    coming = islice(runs(moment, lines, retries), HORIZON)
    return {run.entry.sequence: run.last_at for run in coming}


def delays(before: dict[int, float], after: dict[int, float], moved: int) -> list[float]:
    """Return by how much others are later than before."""
    both = (before.keys() & after.keys()) - {moved}
    return [late for number in both if (late := after[number] - before[number]) > 1e-6]


def joined_by(entry: QueueEntry, lines: Lines, joining: int) -> Lines:
    """Return `lines` with a newcomer, if `joining` batches are to join, at the end of its own."""
    if not joining:
        return lines
    return [
        [*line, entry] if rank == entry.priority else line for rank, line in enumerate(lines, 1)
    ]
