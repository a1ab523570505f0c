"""Power cuts at any moment lose nothing that was acknowledged."""

import random
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from ingest_service.engines.embedded.journals import connections
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.errors import JournalUnusable
from tests.crash.load import Ledger, half_stored, strain
from tests.crash.power import PowerDisk

#: Cuts that one file goes through, one after the other.
LIVES = 5


def live_through_cuts(folder: Path, seed: int) -> int:
    """Cut the power `LIVES` times under one journal; return how many promises were broken."""
    chance = random.Random(seed)  # noqa: S311
    ledger = Ledger()
    lost = 0
    (folder / "0").mkdir(parents=True)
    for life in range(LIVES):
        # Opening takes some 60 operations, all the work some 1,500.
        operations = int(chance.choice((60, 400, 1_500)) * chance.random())
        disk = PowerDisk(chance.getrandbits(32), operations)
        live(folder / str(life) / "journal", disk, ledger, chance.getrandbits(32))
        disk.cut()
        disk.unregister()
        # The next life begins with what the cut has left; a copy of it is looked at.
        disk.leave_remains(folder / str(life + 1))
        copy = folder / f"copy of {life + 1}"
        disk.leave_remains(copy)
        lost += look_back(copy / "journal", ledger)
    return lost


def live(path: Path, disk: PowerDisk, ledger: Ledger, seed: int) -> None:
    """Use a journal until its disk is gone or everything is done."""
    try:
        journal = SqliteJournal(path, vfs=disk.name)
        journal.recover()
    except JournalUnusable:
        return  # the power went while it was opened
    strain(journal, ledger, seed)
    disk.cut()
    journal.close()


def look_back(path: Path, ledger: Ledger) -> int:
    """Return how many promises the journal has broken; nothing in it may be damaged."""
    with closing(SqliteJournal(path)) as journal:
        recovered = journal.recover().unfinished
        # The end is recorded together with the last batch, or not at all.
        assert not any(each.counts.status.final for each in recovered)
        unfinished = {each.ingestion_id for each in recovered}
        journal.check()
        assert half_stored(path) == []
        assert unfinished <= ledger.attempted.keys()
        known = (each for each in ledger.acknowledged - unfinished if journal.load(each))
        return max(ledger.lost(path), len(ledger.acknowledged - unfinished) - len(list(known)))


@pytest.fixture(params=["default", "frequent"])
def checkpoints(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the WAL be moved into the file as usual, or after a few pages already."""
    if request.param == "frequent":
        pragmas = (*connections.PRAGMAS, "wal_autocheckpoint = 10")
        monkeypatch.setattr(connections, "PRAGMAS", pragmas)
    return str(request.param)


@pytest.mark.usefixtures("checkpoints")
@pytest.mark.parametrize("tens", range(10))
def test_nothing_acknowledged_is_lost_when_the_power_is_cut(tmp_path: Path, tens: int) -> None:
    """100 files, 5 cuts each, in two ways: 1,000 cuts, none of which loses or tears anything."""
    for seed in range(tens * 10, tens * 10 + 10):
        assert live_through_cuts(tmp_path / str(seed), seed) == 0


def test_a_journal_that_does_not_sync_loses_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without this, the test above could be blind."""
    pragmas = tuple(each.replace("FULL", "NORMAL") for each in connections.PRAGMAS)
    assert pragmas != connections.PRAGMAS
    monkeypatch.setattr(connections, "PRAGMAS", pragmas)
    lossy = sum(live_through_cuts(tmp_path / str(seed), seed) > 0 for seed in range(10))
    assert lossy >= 5


def test_the_disk_forgets_what_was_not_synced(tmp_path: Path) -> None:
    """The simulation itself: a write without a sync may be gone, one before a sync may not."""
    outcomes = set()
    for seed in range(40):
        folder = tmp_path / str(seed)
        folder.mkdir()
        disk = PowerDisk(seed, 1_000)
        flags = [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_READWRITE, 0]
        file = disk.xOpen(str(folder / "file"), flags)
        file.xWrite(b"a" * 1024, 0)
        file.xSync(apsw.SQLITE_SYNC_NORMAL)
        file.xWrite(b"b" * 1024, 0)
        disk.cut()
        with pytest.raises(apsw.IOError):
            file.xWrite(b"c", 0)
        file.xClose()
        disk.unregister()
        disk.leave_remains(folder / "remains")
        outcomes.add((folder / "remains" / "file").read_bytes())
    first, second = b"a" * 512, b"b" * 512
    assert outcomes == {first + first, first + second, second + first, second + second}
