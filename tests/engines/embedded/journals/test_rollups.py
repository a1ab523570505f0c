"""The history as it is read: put together where it can be, it says what was counted."""

import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path

import apsw
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingest_service.domain.history import MINUTE, minute_of, steps
from ingest_service.domain.rollup import Counts, told_in_steps
from ingest_service.engines.embedded.journal import Counted, Journal
from ingest_service.engines.embedded.journals.exporting import export
from ingest_service.engines.embedded.journals.importing import import_into
from ingest_service.engines.embedded.journals.memory import MemoryJournal
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from tests.engines.embedded.journals.support import NOW
from tests.engines.embedded.journals.test_migrations import old_file
from tests.moving import exported, reader

#: The last one is only told in all.
NAMES = ("accepted.LOW.batches", "wait.HIGH.0.5", "upstream.0.01", "gap.1")
#: In which minute something is counted, what, and whether the file is opened anew before.
Change = tuple[int, str, int, bool]
#: In any order, because clocks are set back.
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


def opened(path: Path) -> SqliteJournal:
    """Return the journal in a file as a service begins with it."""
    journal = SqliteJournal(path)
    journal.recover()
    return journal


def count(path: Path, changes: list[Change]) -> MemoryJournal:
    """Count in a file, and in the journal that is returned."""
    memory, journal = MemoryJournal(), opened(path)
    for number, (minute, name, more, anew) in enumerate(changes):
        if anew:
            journal.close()
            journal = opened(path)
        for each in (memory, journal):
            each.attach(partial(dict, depth=number))
            each.record(Counted(at(minute), {name: more}))
    journal.close()
    return memory


def told(journal: Journal, period: Period) -> list[tuple[Counts, Counts | None]]:
    """Return what is counted in each step of a period, and what waits at its end."""
    first, length, size = period
    since, until = at(first), at(first + length)
    begin = minute_of(since)
    recorded = journal.history(since, until, range(begin, begin + length + 1, size))
    in_steps = steps(recorded.rows, since, size * MINUTE, -(-length // size), [], at(9_999))
    return [(told_in_steps(step.counts), step.depth) for step in in_steps]


def recount(changes: list[Change], period: Period) -> list[Counter[str]]:
    """Return what is counted in each step of a period, change by change."""
    first, length, size = period
    counts = [Counter[str]() for _ in range(0, length, size)]
    for minute, name, more, _ in changes:
        if first <= minute < first + length and name != NAMES[-1]:
            counts[(minute - first) // size][name] += more
    return counts


@given(CHANGES, PERIODS)
@hypothesis_settings(max_examples=60)
def test_any_steps_are_told_as_a_recount_would(
    changes: list[Change], periods: list[Period]
) -> None:
    """Wherever they begin, and while it is still counted; with what waited at their ends."""
    with tempfile.TemporaryDirectory() as folder:
        memory = count(path := Path(folder) / "journal", changes)
        with closing(SqliteJournal(path)) as journal:
            for period in periods:
                in_memory, in_file = told(memory, period), told(journal, period)
                expected = recount(changes, period)
                assert [counts for counts, _ in in_memory] == expected
                assert [counts for counts, _ in in_file] == expected
                if changes == sorted(changes, key=lambda change: change[0]):
                    assert [depth for _, depth in in_file] == [depth for _, depth in in_memory]


def moved(path: Path) -> Path:
    """Return the same on another machine."""
    import_into(f"{path}.moved", reader(exported(export, str(path))))
    return Path(f"{path}.moved")


def of_old(path: Path) -> Path:
    """Return what the service has kept before it has added up the minutes of an hour."""
    with (
        closing(old_file(old := Path(f"{path}.5"), 5)) as db,
        closing(apsw.Connection(str(path))) as new,
    ):
        for row in new.execute("SELECT minute, counts, depth FROM rollup"):
            db.execute("INSERT INTO rollup VALUES (?, ?, ?)", row)
        for row in new.execute("SELECT hour, counts, depth FROM rollup_hour"):
            db.execute("INSERT INTO rollup_hour VALUES (?, ?, ?)", row)
    return old


@given(CHANGES, CHANGES, PERIODS, st.sampled_from([moved, of_old]))
@hypothesis_settings(max_examples=40)
def test_what_was_moved_or_comes_from_an_older_version_goes_on_in_the_same_way(
    before: list[Change], after: list[Change], periods: list[Period], taken: Callable[[Path], Path]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        count(path := Path(folder) / "journal", before)
        count(path := taken(path), after)
        with closing(SqliteJournal(path)) as journal:
            for period in periods:
                expected = recount(before + after, period)
                assert [counts for counts, _ in told(journal, period)] == expected
