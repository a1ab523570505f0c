"""What a journal does on a disk that breaks down: stored or refused, never half, never both."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from ingest_service.engines.embedded.journals import database
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.errors import StorageUnavailable
from tests.crash.faults import FaultyDisk, Operation
from tests.crash.load import Ledger, half_stored

#: Faults in a row that one journal goes through.
FAULTS = 200


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    """Give a disk that works until it is told not to."""
    made = FaultyDisk()
    yield made
    made.unregister()


@pytest.fixture(params=["default", "frequent"])
def checkpoints(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the WAL be moved into the file as usual, or after a few pages already."""
    if request.param == "frequent":
        pragmas = (*database._PRAGMAS, "wal_autocheckpoint = 10")
        monkeypatch.setattr(database, "_PRAGMAS", pragmas)


@pytest.mark.usefixtures("checkpoints")
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("operation", Operation)
def test_a_fault_refuses_without_a_trace_and_heals_by_itself(
    tmp_path: Path, disk: FaultyDisk, operation: Operation, lasting: bool
) -> None:
    """The first, second ... 200th write or sync fails: stored or refused, never half or both."""
    path, ledger = tmp_path / "journal", Ledger()
    with closing(SqliteJournal(path, vfs=disk.name)) as journal:
        journal.recover()
        for nth in range(1, FAULTS + 1):
            error = (apsw.FullError, apsw.IOError, apsw.ReadOnlyError)[nth % 3]
            disk.break_down(operation, nth, error, lasting=lasting)
            use_until_broken(journal, ledger, disk)
            if lasting:
                with pytest.raises(StorageUnavailable):
                    ledger.accept(journal, 4)
                with pytest.raises(StorageUnavailable):
                    journal.check()
            disk.repair()
            ledger.accept(journal, 4)
            journal.check()
            assert ledger.ghosts(path) == set()
            assert ledger.lost(path) == 0
        assert half_stored(path) == []
    assert len(ledger.refused) >= FAULTS / 10
    with closing(SqliteJournal(path)) as journal:
        recovered = {each.ingestion_id for each in journal.recover().unfinished}
        assert all(journal.load(each) for each in ledger.acknowledged - recovered)
    assert not recovered & ledger.refused
    assert ledger.lost(path) == 0


def use_until_broken(journal: SqliteJournal, ledger: Ledger, disk: FaultyDisk) -> None:
    """Accept, start, settle and finish until something has failed."""
    while not disk.failed:
        try:
            ledger.accept(journal, 2_000)
            ledger.work(journal, ledger.accept(journal, 5))
        except StorageUnavailable:
            assert disk.failed


def test_what_was_refused_does_not_come_back_with_the_file(
    tmp_path: Path, disk: FaultyDisk
) -> None:
    """A commit whose sync fails is in the WAL; a journal that is closed then takes it out."""
    path, ledger = tmp_path / "journal", Ledger()
    with closing(SqliteJournal(path, vfs=disk.name)) as journal:
        disk.break_down(Operation.SYNC, 1, apsw.IOError, lasting=True)
        with pytest.raises(StorageUnavailable):
            ledger.accept(journal, 4)
        disk.repair()
    with closing(SqliteJournal(path)) as journal:
        assert journal.recover().unfinished == []
    assert ledger.ghosts(path) == set()


def test_a_bug_in_a_record_does_not_stop_the_writer(tmp_path: Path) -> None:
    """Whatever goes wrong while writing, those who wait get an answer."""
    with closing(SqliteJournal(tmp_path / "journal")) as journal:
        ledger = Ledger(sequences=iter([2**63, 1]))
        with pytest.raises(StorageUnavailable):
            ledger.accept(journal, 4)
        ledger.accept(journal, 4)
