"""What a journal does on a disk that breaks down: stored or refused, never half, never both."""

import itertools
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import apsw
import pytest

from ingest_service.domain.ingestion import Ingestion
from ingest_service.domain.items import Ids
from ingest_service.domain.model import Priority
from ingest_service.engines import IdempotencyKey, OperatorState
from ingest_service.engines.audit import Mark, MarkKind
from ingest_service.engines.embedded.journal import (
    Cancelled,
    Deleted,
    Moved,
    OperatorChanged,
    Reopened,
)
from ingest_service.engines.embedded.journals import connections
from ingest_service.engines.embedded.journals.files import verify
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.errors import StorageUnavailable
from tests.crash.faults import FaultyDisk, Operation
from tests.crash.load import NOW, Ledger, half_stored, submission
from tests.engines.embedded.journals.support import accept, cancel, ingestion

#: Faults in a row that one journal goes through.
FAULTS = 200


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    """Give a disk that works until it is told not to."""
    made = FaultyDisk()
    yield made
    made.unregister()


@pytest.fixture(params=["default", "frequent", "cut"])
def checkpoints(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the WAL be moved into the file as usual, or after a few pages already, and be cut."""
    more = {"default": (), "frequent": ("wal_autocheckpoint = 10",)}.get(
        request.param, ("wal_autocheckpoint = 10", "journal_size_limit = 16384")
    )
    monkeypatch.setattr(connections, "PRAGMAS", (*connections.PRAGMAS, *more))


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
            # Reads everything, and what is lost stays lost.
            assert nth % 20 or ledger.lost(path) == 0
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


def test_a_file_that_cannot_be_made_smaller_is_taken_from_nobody(
    tmp_path: Path, disk: FaultyDisk
) -> None:
    """Whichever sync fails while space is given back: the file was cut, and by nobody else."""
    path, ledger = tmp_path / "journal", Ledger(sequences=itertools.count(100))
    shuffled = list(range(200_000))
    random.Random(1).shuffle(shuffled)  # noqa: S311 - so that they cannot be packed
    with closing(SqliteJournal(path, vfs=disk.name)) as journal:
        for sequence in range(1, 60):
            forgotten = ingestion(sequence, Ids(shuffled))
            accept(journal, forgotten)
            cancel(journal, forgotten)
        full = path.stat().st_size
        for nth in range(1, 13):
            disk.break_down(Operation.SYNC, nth, apsw.IOError, lasting=True)
            with suppress(StorageUnavailable):
                while not disk.failed and journal.prune(NOW + timedelta(seconds=1)):
                    pass
            assert disk.failed
            disk.repair()
            ledger.accept(journal, 4)
        while journal.prune(NOW + timedelta(seconds=1)):
            pass
        assert path.stat().st_size < full


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


def snapshot_of_a_kill(path: Path, folder: Path) -> Path:
    """Copy what a process that is killed now leaves behind; the WAL's index does not survive."""
    folder.mkdir()
    for name in (path.name, f"{path.name}-wal"):
        shutil.copyfile(path.with_name(name), folder / name)
    return folder / path.name


Change = Callable[[SqliteJournal, Ledger, Ingestion], object]
CHANGES: dict[str, Change] = {
    "accept": lambda journal, ledger, _: ledger.accept(journal, 4),
    "accept much": lambda journal, ledger, _: ledger.accept(journal, 5_000),
    "cancel": lambda journal, _, of: journal.record(Cancelled(of.sequence, of.ingestion_id, NOW)),
    "move": lambda journal, _, of: journal.record(
        Moved(of.sequence, of.ingestion_id, Priority.HIGH), Mark(NOW, MarkKind.MOVE, 2, 1)
    ),
    "pause": lambda journal, _, of: journal.record(OperatorChanged(OperatorState("no power"))),
    "retry": lambda journal, _, of: journal.record(
        Reopened(of.sequence, of.ingestion_id, NOW, []), Mark(NOW, MarkKind.RETRY)
    ),
    "keys": lambda journal, _, of: journal.record(Mark(NOW, MarkKind.KEYS, [], ["anna"])),
}


@pytest.mark.usefixtures("checkpoints")
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_was_refused_does_not_come_back_after_a_kill_either(
    tmp_path: Path, disk: FaultyDisk, change: Change, lasting: bool
) -> None:
    """A sync that fails says nothing about what was written before; so it is written over."""
    path, ledger = tmp_path / "journal", Ledger()
    with closing(SqliteJournal(path, vfs=disk.name)) as journal:
        for nth in range(30):
            before = ledger.accept(journal, 4)
            disk.break_down(Operation.SYNC, 1, apsw.IOError, lasting=lasting, writes_too=False)
            with pytest.raises(StorageUnavailable):
                change(journal, ledger, before)
            killed = snapshot_of_a_kill(path, tmp_path / f"{nth}")
            disk.repair()
            assert ledger.ghosts(killed) == set()
            assert ledger.lost(killed) == 0
            with closing(SqliteJournal(killed)) as after:
                recovered = after.recover()
            assert recovered.operator is None
            (same,) = [one for one in recovered.unfinished if one.sequence == before.sequence]
            assert (same.cancelled, same.priority) == (False, Priority.MEDIUM)
            assert marks(killed) == []


def marks(path: Path) -> list[str]:
    """Return what kinds of marks are in a file."""
    with closing(apsw.Connection(str(path))) as db:
        return [str(kind) for (kind,) in db.execute("SELECT kind FROM mark ORDER BY mark")]


@pytest.mark.usefixtures("checkpoints")
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("operation", Operation)
def test_a_deletion_happens_as_a_whole_or_not_at_all(
    tmp_path: Path, disk: FaultyDisk, operation: Operation, lasting: bool
) -> None:
    """Whichever write or sync of it fails; what a kill leaves then is what was answered."""
    path, ledger = tmp_path / "journal", Ledger()
    refused = 0
    with closing(SqliteJournal(path, vfs=disk.name)) as journal:
        for nth in range(1, 30):
            one = ledger.accept(journal, 40)
            ledger.work(journal, one)
            deletion = Deleted(one.sequence, one.ingestion_id)
            mark = Mark(NOW, MarkKind.DELETE, None, None, "anna", one.ingestion_id)
            before = len(marks(path))
            disk.break_down(operation, nth, apsw.IOError, lasting=lasting, writes_too=False)
            try:
                journal.record(deletion, mark)
                deleted = True
            except StorageUnavailable:
                deleted, refused = False, refused + 1
            killed = snapshot_of_a_kill(path, tmp_path / f"{nth}")
            disk.repair()
            with closing(SqliteJournal(killed)) as after:
                assert (after.load(one.ingestion_id) is None) == deleted
                assert after.recover().unfinished == []
            assert len(marks(killed)) == before + deleted
            assert half_stored(killed) == []
            if not deleted:
                journal.record(deletion, mark)
            assert journal.find(one.ingestion_id, range(1)) is None
        assert half_stored(path) == []
    assert refused


@pytest.mark.parametrize("writes_too", [False, True], ids=["syncs fail", "everything fails"])
def test_whoever_repeats_with_a_key_is_never_served_twice(
    tmp_path: Path, disk: FaultyDisk, writes_too: bool
) -> None:
    """Not even if what was refused could not be written over, and the process was killed then."""
    path, key = tmp_path / "journal", IdempotencyKey("k", b"content")
    first, again = submission(1), submission(2)
    with closing(SqliteJournal(path, vfs=disk.name)) as journal:
        disk.break_down(Operation.SYNC, 1, apsw.IOError, lasting=True, writes_too=writes_too)
        with pytest.raises(StorageUnavailable):
            journal.accept(first, key, lambda: None).result(10)
        killed = snapshot_of_a_kill(path, tmp_path / "killed")
        disk.repair()
    with closing(SqliteJournal(killed)) as after:
        came_back = [one.ingestion_id for one in after.recover().unfinished]
        stands_for = after.accept(again, key, lambda: None).result(10)
    assert came_back == ([first.ingestion_id] if writes_too else [])
    assert stands_for == (first if writes_too else again).ingestion_id
    assert verify(str(killed)) == (1, 1)
