"""Queues drawn at random, and going through their slots one by one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from hypothesis import strategies as st

from ingest_service.domain.forecast import forecast
from ingest_service.domain.model import Priority
from ingest_service.domain.pace import Pace
from ingest_service.domain.policy import Policy, QueueEntry, Rule
from ingest_service.domain.runs import Lines, Moment, Run, runs, walked
from ingest_service.domain.slot_times import SlotModel, SlotTimes
from ingest_service.domain.snapshot import (
    Forecast,
    PendingRetry,
    Place,
    QueueSnapshot,
    WorkerState,
)
from ingest_service.engines.embedded.order_index import OrderIndex

PRIORITIES = st.sampled_from(Priority)
quarters = st.integers(0, 40).map(lambda n: n / 4)


def entry(sequence: int, priority: Priority, batches: int, since: float = 0.0) -> QueueEntry:
    """Return the place of an ingestion with so many batches left."""
    return QueueEntry(sequence, priority, since, f"id-{sequence}", batches)


@dataclass(frozen=True)
class Queue:
    """What waits, and what joins later."""

    moment: Moment
    entries: Sequence[QueueEntry]
    retries: Sequence[PendingRetry]

    @property
    def lines(self) -> Lines:
        """What is ready, class by class."""
        ready = [each for each in self.entries if each.batches]
        return [[each for each in ready if each.priority == rank] for rank in Priority]

    def slots(self) -> list[tuple[float, QueueEntry]]:
        """Return every slot to come, one by one."""
        return [
            (at, run.entry)
            for run in runs(self.moment, self.lines, self.retries)
            for at in instants(self.moment, run)
        ]

    def snapshot(self, place: Place | None = None) -> QueueSnapshot:
        """Return it as an engine shows it; what no prediction asks for is left empty."""
        moment = self.moment
        return QueueSnapshot(
            now=moment.now,
            at=datetime(2026, 1, 1, tzinfo=UTC),
            rule=moment.rule,
            pace=Pace(moment.model.interval, 0.0),
            model=moment.model,
            slots=moment.slot,
            totals={},
            front=tuple(map(tuple, self.lines)),
            retries=tuple(self.retries),
            in_flight=(),
            unfinished=0,
            worker=WorkerState(alive=True),
            place=place,
        )

    def forecast(self, target: QueueEntry) -> Forecast | None:
        """Predict by sums, or by a walk where sums do not do."""
        if self.moment.rule.policy is Policy.AGED:
            return walked(self.moment, self.lines, self.retries).get(target.sequence)
        return forecast(self.moment, Sums(self.lines), self.retries, target, 0)


class Sums:
    """Sums over lines, see `forecast.Sums`."""

    def __init__(self, lines: Lines) -> None:
        self._index = {priority: OrderIndex[None]() for priority in Priority}
        for line in lines:
            for each in line:
                self._index[each.priority].put(
                    each.sequence, None, batches=each.batches, items=each.batches, slots=1
                )

    def total(self, priority: Priority) -> tuple[int, int]:
        index = self._index[priority]
        return index.ready, index.batches

    def before(self, priority: Priority, sequence: int) -> tuple[int, int]:
        return self._index[priority].before(sequence)

    def batches(self, priority: Priority, sequence: int) -> int:
        return self._index[priority].batches_of(sequence)

    def ingestions_within(self, priority: Priority, after: int, batches: int) -> int:
        return self._index[priority].entries_within(after, batches)


def instants(moment: Moment, run: Run) -> list[float]:
    """Return when each slot of a run opens; nothing is missing within a run."""
    if run.batches == 1:
        return [run.first_at]
    times = SlotTimes(moment.model, moment.now)
    times.delay(run.number, run.first_at)
    return [times.at(run.number + each) for each in range(run.batches)]


models = st.builds(
    SlotModel,
    opens_at=quarters,
    interval=st.integers(1, 20).map(lambda n: n / 4),
    duration=quarters,
    concurrent=st.integers(1, 4),
    ends=st.lists(quarters, max_size=3).map(tuple),
)
rules = st.builds(Rule, st.sampled_from(Policy), st.sampled_from([5.0, 20.0]))
moments = st.builds(Moment, quarters, rules, models, st.integers(0, 11))


@st.composite
def queues(draw: st.DrawFn, rule: st.SearchStrategy[Rule] = rules) -> Queue:
    """Draw a moment in the life of a queue; some wait only for another attempt."""
    # Nothing but other attempts, little beside them, or much: who is due first matters.
    batches = draw(st.sampled_from([st.integers(0, most) for most in (0, 2, 40)]))
    drawn = draw(st.lists(st.tuples(PRIORITIES, batches, quarters), min_size=1, max_size=8))
    entries = [entry(n, *each) for n, each in enumerate(drawn)]
    chosen = draw(st.lists(st.tuples(st.sampled_from(entries), quarters), max_size=4))
    retries = [PendingRetry(at, each._replace(batches=1)) for each, at in chosen]
    return Queue(draw(moments)._replace(rule=draw(rule)), entries, retries)
