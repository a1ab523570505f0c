"""Journals, empty or opened once more."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest_service.engines.embedded.journal import Journal
from ingest_service.engines.embedded.journals.memory import MemoryJournal
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal

Reopen = Callable[[], SqliteJournal]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a file that is not there yet."""
    return tmp_path / "journal.sqlite3"


@pytest.fixture(params=["memory", "sqlite"])
def journal(request: pytest.FixtureRequest, path: Path) -> Iterator[Journal]:
    """Give every journal there is, empty."""
    opened: Journal = MemoryJournal() if request.param == "memory" else SqliteJournal(path)
    opened.recover()
    yield opened
    opened.close()


@pytest.fixture
def reopened(path: Path) -> Iterator[Reopen]:
    """Give a function that opens the file anew, as after a crash."""
    opened: list[SqliteJournal] = []

    def reopen() -> SqliteJournal:
        for earlier in opened:
            earlier.close()
        opened.append(SqliteJournal(path))
        return opened[-1]

    yield reopen
    for last in opened:
        last.close()
