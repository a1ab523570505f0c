"""What a history says, compared with a recount of what has changed."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from hypothesis import strategies as st

from ingest_service.domain.history import MINUTE, Step, minute_of, steps
from ingest_service.domain.rollup import told_in_steps
from ingest_service.engines.history import Recorded
from tests.engines.embedded.journals.support import NOW

#: The last one is only told in all.
NAMES = ("accepted.LOW.batches", "wait.HIGH.0.5", "upstream.0.01", "gap.1")
#: In which minute something is counted, what, how often, and whether something happens before.
Change = tuple[int, str, int, bool]
#: In any order, because clocks are set back, and some are late.
CHANGES = st.lists(
    st.tuples(st.integers(0, 200), st.sampled_from(NAMES), st.integers(1, 3), st.booleans())
)
#: From which minute on, how many, and in steps of how many.
Period = tuple[int, int, int]
PERIODS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(1, 200), st.integers(1, 130)), min_size=1
)


def at(minute: int) -> datetime:
    """Return the beginning of a minute, of which some belong to the hour before NOW."""
    return NOW + (minute - 30) * MINUTE


def told(
    history: Callable[[datetime, datetime, Sequence[int]], Recorded], period: Period
) -> list[Step]:
    """Return the steps of a period, with no counters but those that they tell."""
    first, length, size = period
    since, until = at(first), at(first + length)
    begin = minute_of(since)
    recorded = history(since, until, range(begin, begin + length + 1, size))
    in_steps = steps(recorded.rows, since, size * MINUTE, -(-length // size), [], at(9_999))
    return [Step(step.at, told_in_steps(step.counts), step.depth, step.slots) for step in in_steps]


def recount(changes: Iterable[Change], period: Period) -> list[Counter[str]]:
    """Return what is counted in each step of a period, change by change."""
    first, length, size = period
    counts = [Counter[str]() for _ in range(0, length, size)]
    for minute, name, more, _ in changes:
        if first <= minute < first + length and name != NAMES[-1]:
            counts[(minute - first) // size][name] += more
    return counts
