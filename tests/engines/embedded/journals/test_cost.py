"""What things cost: a page costs a page, and what is kept in memory is kept small."""

import gc
import json
import random
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import apsw
import pytest

from ingest_service.domain.ingestion import Ingestion
from ingest_service.domain.items import Ids, Mappings
from ingest_service.domain.model import Outcome, states_of
from ingest_service.engines.embedded.journal import Journal, Settled
from ingest_service.engines.embedded.journals.files import verify
from ingest_service.engines.embedded.journals.memory import MemoryJournal
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from tests.engines.embedded.journals.support import (
    GOOD,
    NOW,
    accept,
    cancel,
    end,
    finish,
    ingestion,
    newest,
    start,
)

LARGE = 300_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ingestion]:
    """Make a journal with a large finished ingestion of mappings, three batches of it settled."""
    path = tmp_path_factory.mktemp("large") / "journal"
    mappings = ({"id": f"m{n}", "source": "s" * 40, "target": f"t{n}"} for n in range(LARGE))
    accepted = ingestion(1, Mappings(mappings), batch_size=10)
    with closing(SqliteJournal(path)) as journal:
        accept(journal, accepted)
        for _ in range(3):
            batch = start(journal, accepted)
            accepted.settle(batch, states_of([GOOD] * 10), NOW)
            journal.record(Settled(batch, NOW, [GOOD] * 10))
        cancel(journal, accepted)
        for sequence in range(2, 52):
            finish(journal, ingestion(sequence, Ids([1])))
    return path, accepted


class CountingDisk(apsw.VFS):
    """Counts the bytes that are read through it."""

    def __init__(self) -> None:
        self.read = 0
        self.name = "counting"
        super().__init__(self.name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        """Open a file that counts along."""
        return _CountingFile(self, name, flags)

    def pages(self, journal: SqliteJournal, call: Callable[[], object]) -> int:
        """Return how many pages `call` reads from a journal that has nothing in its cache."""
        reader, journal._db._reader = journal._db._reader, None
        if reader:
            reader.close()
        before = self.read
        call()
        return (self.read - before) // 4_096


class _CountingFile(apsw.VFSFile):
    def __init__(
        self, disk: CountingDisk, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        self._disk = disk
        super().__init__("", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.read += amount
        return super().xRead(amount, offset)


@pytest.fixture
def disk() -> Iterator[CountingDisk]:
    """Give a disk that counts what is read."""
    counting = CountingDisk()
    yield counting
    counting.unregister()


def test_a_page_of_a_large_ingestion_costs_a_page(
    disk: CountingDisk, large: tuple[Path, Ingestion]
) -> None:
    """Its status, its results and its place in a list, wherever the page is."""
    path, accepted = large
    name = accepted.ingestion_id
    with closing(SqliteJournal(path, vfs=disk.name)) as journal:
        assert disk.pages(journal, lambda: journal.load(name)) > 500
        nothing = disk.pages(journal, lambda: journal.find("nobody", range(1)))
        for first in (0, 12_345, 29_990):
            page = range(first, first + 10)
            calls: list[tuple[Callable[[], object], int]] = [
                (partial(journal.find, name, page), 40),
                (partial(journal.keys, name, page), 30),
                (partial(journal.results, name, page), 10),
                # A byte an item, because a page of results starts after so many of a state.
                (partial(journal.item_states, name), 90),
                (partial(journal.finished, newest(10)), 10),
                (partial(journal.finished, newest(100)), 20),
                (journal.oldest_finished, 10),
            ]
            for call, pages in calls:
                assert disk.pages(journal, call) - nothing <= pages


def test_a_result_in_memory_costs_at_most_twice_its_text() -> None:
    """That is 4.6 times with an object a batch."""
    text = json.dumps([[True, {"id": 500_000_000, "data": "processed"}, None]])
    journal, count = MemoryJournal(), 30_000
    accepted = ingestion(1, Ids(range(count)))
    accept(journal, accepted)
    gc.collect()
    tracemalloc.start()
    while accepted.batches_left:
        batch = start(journal, accepted)
        outcomes = [Outcome(True, {"id": 500_000_000, "data": "processed"}) for _ in batch.items]
        journal.record(Settled(batch, NOW, outcomes))
        accepted.settle(batch, states_of(outcomes), NOW)
    journal.record(end(accepted))
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert held / count <= 2 * len(text)


def test_a_list_of_many_finished_ones_costs_what_it_shows(journal: Journal) -> None:
    """The others are not looked at."""
    for sequence in range(1, 300):
        finish(journal, ingestion(sequence, Ids([1])))
    assert [one.sequence for one in journal.finished(newest(2, 200))] == [199, 198]


def test_the_file_gets_smaller_when_things_are_forgotten(path: Path) -> None:
    """In short steps, and not before they are."""
    shuffled = list(range(200_000))
    random.Random(1).shuffle(shuffled)  # noqa: S311 - so that they cannot be packed
    with closing(SqliteJournal(path)) as journal:
        for sequence in range(1, 60):
            accepted = ingestion(sequence, Ids(shuffled))
            accept(journal, accepted)
            cancel(journal, accepted)
        finish(journal, ingestion(60))
        assert journal.prune(NOW) == 0
        full = path.stat().st_size
        assert full > 8 * 2**20
        steps = 0
        while journal.prune(NOW + timedelta(seconds=1)):
            steps += 1
        assert steps > full // 2**20
        assert path.stat().st_size < 2 * 2**20
        accept(journal, ingestion(61))
    assert verify(str(path)) == (1, 1)


def test_a_file_that_cannot_shrink_is_left_as_it_is(path: Path) -> None:
    """An older version has begun it."""
    SqliteJournal(path).close()
    with closing(apsw.Connection(str(path))) as db:
        db.execute("PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM").fetchall()
    with closing(SqliteJournal(path)) as journal:
        for sequence in range(1, 300):
            accepted = ingestion(sequence, Ids(range(sequence, 90_000, sequence)))
            accept(journal, accepted)
            cancel(journal, accepted)
        while journal.prune(NOW + timedelta(seconds=1)):
            pass
        assert journal.oldest_finished() is None


def test_ids_that_are_in_some_order_take_a_tenth_of_the_space(path: Path) -> None:
    """Whatever else they are; those in no order at all take what they take."""
    with closing(SqliteJournal(path)) as journal:
        for sequence, ids in enumerate(
            (range(1, 10**6), range(500_000_000, 500_000_000 + 7 * 10**6, 7)), start=1
        ):
            accepted = ingestion(sequence, Ids(ids))
            accept(journal, accepted)
            cancel(journal, accepted)
            loaded = journal.load(accepted.ingestion_id)
            assert loaded is not None
            assert loaded.submission.items.to_bytes() == accepted.submission.items.to_bytes()
    assert path.stat().st_size < 2 * 4 * 10**6 / 10
