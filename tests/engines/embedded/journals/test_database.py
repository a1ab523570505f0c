"""Who writes to the file: one thread at a time, and nothing gets lost between two."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import apsw
import pytest

from ingest_service.engines.embedded.journals.database import Database
from ingest_service.engines.embedded.journals.rollups import RollupWriter
from ingest_service.errors import StorageUnavailable
from tests.realtime import GUARD


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    """Open a file with a table of numbers."""
    database = Database(path, time.monotonic, RollupWriter())
    database.write_now(lambda db: db.execute("CREATE TABLE numbers (number)"))
    yield database
    database.close()


def add(db: apsw.Connection, number: int) -> str:
    """Write a number; return the name of the thread that did."""
    db.execute("INSERT INTO numbers VALUES (?)", (number,))
    return threading.current_thread().name


def numbers(database: Database) -> list[int]:
    """Return what was written."""
    return database.read(lambda db: [row[0] for row in db.execute("SELECT number FROM numbers")])


def test_a_record_is_written_by_its_own_thread_if_no_other_writes(database: Database) -> None:
    """To hand it over would take as long as to write it."""
    assert database.write_now(lambda db: add(db, 1)) == threading.current_thread().name
    assert database.write(lambda db: add(db, 2)).result(GUARD) == "journal"
    assert numbers(database) == [1, 2]


def test_a_record_that_comes_while_another_is_written_waits_its_turn(database: Database) -> None:
    """And is written by the thread that is at it."""
    begun, go_on = threading.Event(), threading.Event()

    def slowly(db: apsw.Connection) -> None:
        begun.set()
        assert go_on.wait(GUARD)
        add(db, 1)

    with ThreadPoolExecutor() as threads:
        first = database.write(slowly)
        assert begun.wait(GUARD)
        second = threads.submit(database.write_now, lambda db: add(db, 2))
        go_on.set()
        first.result(GUARD)
        assert second.result(GUARD) in {"journal", "ThreadPoolExecutor-0_0"}
    assert numbers(database) == [1, 2]


def test_records_of_many_threads_are_all_there(database: Database) -> None:
    """Once each, however they were written."""
    writes = [partial(add, number=number) for number in range(400)]
    with ThreadPoolExecutor(4) as threads:
        at_once = [threads.submit(database.write_now, write) for write in writes[::2]]
        handed_over = [database.write(write) for write in writes[1::2]]
        for each in [*at_once, *handed_over]:
            each.result(GUARD)
    assert sorted(numbers(database)) == list(range(400))


def test_a_record_that_fails_is_refused_in_its_own_thread(database: Database) -> None:
    """Nothing of it is there, and the next one is written."""
    with pytest.raises(StorageUnavailable):
        database.write_now(lambda db: add(db, 1) + 1)  # type: ignore[operator]
    database.write_now(lambda db: add(db, 2))
    assert numbers(database) == [2]
