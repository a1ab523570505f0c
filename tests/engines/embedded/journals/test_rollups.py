"""The history as it is read: put together where it can be, it says what was counted."""

import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import apsw
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingest_service.engines.embedded.journal import Counted
from ingest_service.engines.embedded.journals.exporting import export
from ingest_service.engines.embedded.journals.importing import import_into
from ingest_service.engines.embedded.journals.memory import MemoryJournal
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from tests.engines.embedded.journals.test_migrations import old_file
from tests.moving import exported, reader
from tests.recounting import CHANGES, PERIODS, Change, Period, at, recount, told


def opened(path: Path) -> SqliteJournal:
    """Return the journal in a file as a service begins with it."""
    journal = SqliteJournal(path)
    journal.recover()
    return journal


def count(path: Path, changes: list[Change]) -> MemoryJournal:
    """Count in a file, which may be opened anew before, and in the journal that is returned."""
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
                in_memory, in_file = told(memory.history, period), told(journal.history, period)
                expected = recount(changes, period)
                assert [step.counts for step in in_memory] == expected
                assert [step.counts for step in in_file] == expected
                if changes == sorted(changes, key=lambda change: change[0]):
                    assert [step.depth for step in in_file] == [step.depth for step in in_memory]


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
                assert [step.counts for step in told(journal.history, period)] == expected
