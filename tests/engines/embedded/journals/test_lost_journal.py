"""A journal that somebody lays hands on while it is in use: refused loudly, nothing lost."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ingest_service.engines.embedded.journals.files import restore, verify
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.errors import StorageUnavailable
from tests.engines.embedded.journals.support import accept, ingestion


def replace_by_copy(path: Path) -> None:
    """Put another file with the same content under the name."""
    copy = path.with_name("another")
    shutil.copyfile(path, copy)
    copy.replace(path)


def cut(path: Path) -> None:
    """Empty the file, as a shell's `>` does."""
    path.write_bytes(b"")


ACCIDENTS: dict[str, Callable[[Path], None]] = {
    "deleted": Path.unlink,
    "replaced": replace_by_copy,
    "cut short": cut,
}


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    """Give a journal that has acknowledged something."""
    with closing(SqliteJournal(path)) as opened:
        accept(opened, ingestion(1))
        yield opened


@pytest.mark.parametrize(
    ("accident", "ending"),
    [
        (accident, ending)
        for accident in ACCIDENTS
        for ending in ("", "-wal", "-shm")
        # Whoever cuts shared memory short kills the process: nothing is acknowledged then either.
        if (accident, ending) != ("cut short", "-shm")
    ],
)
def test_nothing_is_acknowledged_any_more(
    journal: SqliteJournal,
    path: Path,
    accident: str,
    ending: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It would be gone tomorrow; the log says once what has happened and what to do."""
    name = path.with_name(path.name + ending)
    ACCIDENTS[accident](name)

    for _ in range(3):
        with pytest.raises(StorageUnavailable):
            accept(journal, ingestion(2))
        with pytest.raises(StorageUnavailable):
            journal.check()

    (line,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    reason = line.__dict__["fields"]["reason"]
    assert f"{name} was {accident} while it was in use" in reason
    assert "ingest-service restore" in reason
    assert "start it again" in reason


@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
@pytest.mark.parametrize("accident", ["deleted", "replaced"])
def test_what_was_acknowledged_is_rescued(
    journal: SqliteJournal, path: Path, accident: str, ending: str
) -> None:
    """The files are still open; `restore` takes what is made of them."""
    ACCIDENTS[accident](path.with_name(path.name + ending))
    with pytest.raises(StorageUnavailable):
        accept(journal, ingestion(2))
    (rescued,) = path.parent.glob("*.rescued-*")
    assert rescued.stat().st_mode & 0o777 == 0o600
    journal.close()

    restore(str(path), str(rescued))

    assert verify(str(path)) == (1, 1)


def test_it_heals_when_the_file_is_put_back(
    journal: SqliteJournal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody had only moved it."""
    caplog.set_level(logging.INFO, "ingest_service")
    aside = path.with_name("aside")
    path.rename(aside)
    with pytest.raises(StorageUnavailable):
        journal.check()
    assert not path.exists()
    aside.rename(path)

    accept(journal, ingestion(2))

    assert [record.message for record in caplog.records] == ["storage_failed", "storage_healed"]
    assert verify(str(path)) == (2, 2)


def test_the_log_of_whatever_took_its_place_is_left_alone(
    journal: SqliteJournal, path: Path
) -> None:
    """A service that began anew under the same name goes on when the old one ends."""
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink()
    with closing(SqliteJournal(path)) as other:
        accept(other, ingestion(7))
        with pytest.raises(StorageUnavailable):
            journal.check()
        journal.close()
        assert path.with_name(path.name + "-wal").exists()
        accept(other, ingestion(8))
    assert verify(str(path)) == (2, 2)


@pytest.mark.parametrize("thread", ["its own", "the journal's"])
def test_a_journal_that_cannot_be_looked_at_is_refused_for_that_long(
    journal: SqliteJournal, path: Path, monkeypatch: pytest.MonkeyPatch, thread: str
) -> None:
    """Whichever thread writes; then it goes on, and lets others have the file at its end."""
    stat = os.stat

    def refused(name: object, **options: Any) -> os.stat_result:
        if str(name).startswith(str(path)):
            raise PermissionError(13, "Permission denied")
        return stat(name, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refused)
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                journal.check() if thread == "its own" else accept(journal, ingestion(2))
    accept(journal, ingestion(3))
    journal.close()

    with closing(SqliteJournal(path)) as again:
        assert [one.sequence for one in again.recover().unfinished] == [1, 3]
