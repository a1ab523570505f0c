"""Backups, and going back to one."""

from contextlib import closing
from pathlib import Path

import pytest

from ingest_service.engines.embedded.journals.files import back_up, restore, verify
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.errors import JournalUnusable
from tests.engines.embedded.journals.support import accept, ingestion


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


def test_restoring_goes_back_to_the_backup_and_nothing_of_what_came_later_stays(
    path: Path, tmp_path: Path
) -> None:
    """Not even what was only in the WAL of a process that was killed."""
    copy = tmp_path / "copy.sqlite3"
    journal = SqliteJournal(path)
    accept(journal, ingestion(1))
    back_up(str(path), str(copy))
    accept(journal, ingestion(2))
    left_behind = path.with_name(path.name + "-wal").read_bytes()
    with pytest.raises(JournalUnusable, match="another process uses this journal"):
        restore(str(path), str(copy))
    journal.close()
    path.with_name(path.name + "-wal").write_bytes(left_behind)

    restore(str(path), str(copy))

    assert verify(str(path)) == (1, 1)


def test_a_backup_does_not_overwrite(path: Path, tmp_path: Path) -> None:
    """The last good copy is worth more than a mistyped command."""
    SqliteJournal(path).close()
    copy = tmp_path / "copy"
    copy.write_text("precious")
    with pytest.raises(JournalUnusable):
        back_up(str(path), str(copy))
    assert copy.read_text() == "precious"
