"""The files of a journal: one service each, for its owner's eyes, copied and put back whole."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from ingest_service.engines.embedded.journals import files
from ingest_service.engines.embedded.journals.files import back_up, restore, verify
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.errors import JournalUnusable
from ingest_service.settings import Settings
from tests.engines.embedded.journals.support import accept, ingestion
from tests.restarts import restarting

IN_USE = "another process uses this journal"


def test_another_name_for_the_file_lets_nobody_in(path: Path) -> None:
    """Two paces would be twice the rate, whatever the file is called."""
    symlink, hardlink = path.with_name("symlink"), path.with_name("hardlink")
    symlink.symlink_to(path)
    with closing(SqliteJournal(path)):
        hardlink.hardlink_to(path)
        for name in (path, symlink, hardlink):
            with pytest.raises(JournalUnusable, match=IN_USE):
                SqliteJournal(name)
    with closing(SqliteJournal(symlink)), pytest.raises(JournalUnusable, match=IN_USE):
        SqliteJournal(path)


def test_the_lock_outlives_connections_that_come_and_go(path: Path, tmp_path: Path) -> None:
    """SQLite forgets its own locks when any descriptor of the file is closed."""
    with closing(SqliteJournal(path)) as journal:
        accept(journal, ingestion(1))
        back_up(str(path), str(tmp_path / "copy"))
        verify(str(path))
        with pytest.raises(JournalUnusable, match=IN_USE):
            SqliteJournal(path)
        accept(journal, ingestion(2))


def test_a_service_of_a_version_with_a_lock_file_is_respected(path: Path) -> None:
    """Otherwise there would be two during an upgrade; the file alone means nothing."""
    lock = path.with_name(path.name + ".lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(JournalUnusable, match="older version"):
            SqliteJournal(path)
    SqliteJournal(path).close()


def test_nobody_else_can_read_any_of_it(path: Path, tmp_path: Path) -> None:
    """Whatever the umask says, and whatever was there before."""
    before = os.umask(0)
    copy = tmp_path / "copy"
    try:
        with closing(SqliteJournal(path)) as journal:
            accept(journal, ingestion(1))
            back_up(str(path), str(copy))
            assert modes(tmp_path) == {0o600}
        path.chmod(0o644)
        with closing(SqliteJournal(path)) as journal:
            accept(journal, ingestion(2))
            assert modes(tmp_path) == {0o600}
        restore(str(path), str(copy))
    finally:
        os.umask(before)
    assert modes(tmp_path) == {0o600}


def modes(folder: Path) -> set[int]:
    """Return what others may do with the files of a folder."""
    return {file.stat().st_mode & 0o777 for file in folder.iterdir()}


def test_a_backup_is_a_journal_of_its_own(path: Path, tmp_path: Path) -> None:
    """Made while the first one is open, with everything acknowledged by then."""
    copy = tmp_path / "copy.sqlite3"
    with closing(SqliteJournal(path)) as journal:
        accepted = ingestion(1)
        accept(journal, accepted)
        back_up(str(path), str(copy))

        assert verify(str(copy)) == verify(str(path)) == (1, 1)
        with closing(SqliteJournal(copy)) as restored:
            assert restored.recover().unfinished[0].ingestion_id == accepted.ingestion_id


def test_a_backup_does_not_overwrite(path: Path, tmp_path: Path) -> None:
    """The last good copy is worth more than a mistyped command."""
    SqliteJournal(path).close()
    copy = tmp_path / "copy"
    copy.write_text("precious")
    with pytest.raises(JournalUnusable):
        back_up(str(path), str(copy))
    assert copy.read_text() == "precious"


@pytest.fixture
def left_behind(path: Path, tmp_path: Path) -> Path:
    """Leave a journal as a killed process does, with two ingestions in its log; return a backup."""
    copy = tmp_path / "copy.sqlite3"
    with closing(SqliteJournal(path)) as journal:
        accept(journal, ingestion(1))
        back_up(str(path), str(copy))
        accept(journal, ingestion(2))
        killed = {name: name.read_bytes() for name in (path, wal(path))}
    for name, content in killed.items():
        name.write_bytes(content)
    return copy


def wal(path: Path) -> Path:
    """Return where the log of the journal at `path` is."""
    return path.with_name(path.name + "-wal")


def test_restoring_goes_back_to_the_backup_and_nothing_of_what_came_later_stays(
    path: Path, left_behind: Path
) -> None:
    """Not even what was only in the WAL of a process that was killed."""
    restore(str(path), str(left_behind))

    assert verify(str(path)) == (1, 1)


def test_after_a_restore_a_whole_interval_is_waited(path: Path, tmp_path: Path) -> None:
    """The backup knows nothing of what went out after it."""
    copy = tmp_path / "copy"
    with restarting(path, Settings(interval=60, settle=0)) as lives:
        lives.api.ingest([1])
        lives.api.advance(100)
        back_up(str(path), str(copy))
        lives.api.ingest([2])
        lives.api.advance(2)
        lives.close()
        restore(str(path), str(copy))
        lives.crash()
        lives.api.ingest([3])
        lives.api.advance(100)
        assert lives.api.sent() == [(0, [1]), (100, [2]), (162, [3])]
        assert verify(str(copy)) == (1, 0)


def test_nothing_is_restored_while_anything_uses_the_journal(path: Path, left_behind: Path) -> None:
    """Under whatever name; a program that only reads counts as well."""
    symlink = path.with_name("symlink")
    symlink.symlink_to(path)
    with closing(SqliteJournal(symlink)), pytest.raises(JournalUnusable, match=IN_USE):
        restore(str(path), str(left_behind))
    # In a process of its own, because SQLite's locks are between processes.
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", READ, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"2\n"
        with pytest.raises(JournalUnusable, match="another program reads it"):
            restore(str(path), str(left_behind))
        reader.communicate()
    assert verify(str(path)) == (2, 2)


def test_restoring_through_another_name_puts_the_backup_where_the_file_is(
    path: Path, left_behind: Path
) -> None:
    """The name stays a name."""
    symlink = path.with_name("symlink")
    symlink.symlink_to(path)
    restore(str(symlink), str(left_behind))
    assert symlink.is_symlink()
    assert verify(str(path)) == (1, 1)
    with pytest.raises(JournalUnusable, match="is the journal itself"):
        restore(str(path), str(symlink))


def test_a_journal_that_is_damaged_or_gone_can_be_restored(path: Path, left_behind: Path) -> None:
    """That is what backups are for; its log goes with it."""
    path.write_bytes(b"something else entirely" * 1000)
    restore(str(path), str(left_behind))
    assert verify(str(path)) == (1, 1)
    path.unlink()
    wal(path).write_bytes(b"what is left")
    restore(str(path), str(left_behind))
    assert verify(str(path)) == (1, 1)


def test_a_backup_may_have_a_log_of_its_own(path: Path, left_behind: Path) -> None:
    """Somebody has opened it to look, and was killed."""
    other = path.with_name("other")
    restore(str(other), str(path))
    assert verify(str(other)) == (2, 2)


READ = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
print(*db.execute("SELECT count(*) FROM ingestion").fetchone(), flush=True)
sys.stdin.read()
"""


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Give a function that has the process end before its nth change of the files."""
    left = [0]

    def step(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **options: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                raise Killed(name)
            return call(*args, **options)

        return counted

    def end_before(nth: int) -> None:
        left[0] = nth

    for owner, name in ((Path, "unlink"), (Path, "replace"), (files, "sync"), (files, "copy_into")):
        monkeypatch.setattr(owner, name, step(name, getattr(owner, name)))
    return end_before


def test_wherever_restoring_is_cut_short_there_is_a_whole_journal(
    path: Path, left_behind: Path, steps: Callable[[int], None]
) -> None:
    """The old one with all of its log, or the backup; never one with the log of the other."""
    seen = []
    for nth in range(1, 99):
        steps(nth)
        try:
            restore(str(path), str(left_behind))
        except Killed:
            steps(0)
            seen.append(verify(str(path)))
        else:
            break
    assert len(seen) >= 5
    assert sorted(seen, reverse=True) == seen
    assert set(seen) == {(2, 2), (1, 1)}
    assert verify(str(path)) == (1, 1)


def test_opening_and_copying_change_nothing(path: Path, tmp_path: Path) -> None:
    """Nobody writes into what may be damaged."""
    SqliteJournal(path).close()
    before = path.read_bytes()
    back_up(str(path), str(tmp_path / "copy"))
    verify(str(path))
    SqliteJournal(path).close()
    assert path.read_bytes() == before


def test_space_that_is_free_can_be_given_back(path: Path, tmp_path: Path) -> None:
    """By new files, and by those that a backup was put in the place of."""
    copy = tmp_path / "copy"
    SqliteJournal(path).close()
    assert auto_vacuum(path) == 2
    with closing(apsw.Connection(str(path))) as db:
        db.execute("PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM").fetchall()
    assert auto_vacuum(path) == 0
    back_up(str(path), str(copy))
    assert auto_vacuum(copy) == 2


def auto_vacuum(path: Path) -> object:
    """Return how the file at `path` gives back space: 0 is never, 2 step by step."""
    with closing(apsw.Connection(str(path))) as db:
        return db.execute("PRAGMA auto_vacuum").fetchall()[0][0]
