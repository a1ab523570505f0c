"""Who writes to the file: one thread at a time, and nothing gets lost between two."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import apsw
import pytest

from ingest_service.engines.embedded.journals.changes import Statement
from ingest_service.engines.embedded.journals.database import Database
from ingest_service.engines.embedded.journals.rollups import RollupWriter
from ingest_service.errors import StorageUnavailable
from tests.realtime import GUARD, eventually
from tests.uncollected import alive, uncollected


@pytest.fixture
def file(path: Path) -> Iterator[Database]:
    """Open a file with a table of numbers."""
    file = Database(path, time.monotonic, RollupWriter())
    file.write_now(lambda db: db.execute("CREATE TABLE numbers (number)").fetchall())
    yield file
    file.close()


def add(db: apsw.Connection, number: int) -> str:
    """Write a number; return the name of the thread that did."""
    db.execute("INSERT INTO numbers VALUES (?)", (number,))
    return threading.current_thread().name


def numbers(file: Database) -> list[int]:
    """Return what was written."""
    return file.read(lambda db: [row[0] for row in db.execute("SELECT number FROM numbers")])


def test_a_record_is_written_by_its_own_thread_if_no_other_writes(file: Database) -> None:
    """To hand it over would take as long as to write it."""
    assert file.write_now(lambda db: add(db, 1)) == threading.current_thread().name
    assert file.write(lambda db: add(db, 2)).result(GUARD) == "journal"
    assert numbers(file) == [1, 2]


def test_a_large_answer_does_not_stay_with_its_statement(file: Database) -> None:
    """Until the next one comes, which may be days later."""
    answered = b"a" * (2**20 + 1)
    name = {"sequence": 1, "batch": 0, "start_no": 1}
    values = name | {"offsets": b"", "outcomes": answered}
    before = apsw.memory_used()
    file.run([Statement("add_result", values)])
    assert apsw.memory_used() - before < 2**20 // 2


def test_what_could_not_be_written_is_let_go(file: Database) -> None:
    class Content:
        """What a change is about."""

    def write() -> None:
        content = Content()

        def fail(_: apsw.Connection) -> None:
            raise apsw.IOError(str(content))

        with pytest.raises(StorageUnavailable):
            file.write_now(fail)

    with uncollected():
        write()
        eventually("nothing holds it", lambda: not alive(Content))


def test_a_record_that_comes_while_another_is_written_waits_its_turn(file: Database) -> None:
    """One after the other, by whichever thread."""
    begun, go_on = threading.Event(), threading.Event()

    def slowly(db: apsw.Connection) -> None:
        begun.set()
        assert go_on.wait(GUARD)
        add(db, 1)

    with ThreadPoolExecutor(thread_name_prefix="other") as threads:
        first = file.write(slowly)
        assert begun.wait(GUARD)
        second = threads.submit(file.write_now, lambda db: add(db, 2))
        go_on.set()
        first.result(GUARD)
        assert second.result(GUARD) in {"journal", "other_0"}
    assert numbers(file) == [1, 2]


def test_a_record_that_waits_for_its_turn_is_not_overtaken(file: Database) -> None:
    """However often another thread could be faster."""
    seen: list[int] = []

    def write(db: apsw.Connection, number: int) -> None:
        add(db, number)
        seen.append(number)

    with ThreadPoolExecutor() as threads:
        for round_no in range(20):
            first = file.write(partial(write, number=round_no))
            hurried = threads.submit(
                lambda: [file.write_now(partial(write, number=-1)) for _ in range(50)]
            )
            first.result(GUARD)
            hurried.result(GUARD)
            assert seen.index(round_no) <= 2, "it waits for what is being written, and for no more"
            seen.clear()


def test_a_closed_file_takes_no_record(path: Path) -> None:
    """Neither by its own thread nor by another."""
    file = Database(path, time.monotonic, RollupWriter())
    file.close()
    for write in (file.write_now, lambda write: file.write(write).result(GUARD)):
        with pytest.raises(StorageUnavailable, match="closed"):
            write(lambda db: None)


def test_records_of_many_threads_are_all_there(file: Database) -> None:
    """Once each, however they were written."""
    writes = [partial(add, number=number) for number in range(400)]
    with ThreadPoolExecutor(4) as threads:
        at_once = [threads.submit(file.write_now, write) for write in writes[::2]]
        handed_over = [file.write(write) for write in writes[1::2]]
        for each in [*at_once, *handed_over]:
            each.result(GUARD)
    assert sorted(numbers(file)) == list(range(400))


def test_a_record_that_fails_is_refused_in_its_own_thread(file: Database) -> None:
    """Nothing of it is there, and the next one is written."""
    with pytest.raises(StorageUnavailable):
        file.write_now(lambda db: add(db, 1) + 1)  # type: ignore[operator]
    file.write_now(lambda db: add(db, 2))
    assert numbers(file) == [2]
