"""A disk that is nearly full: new work is refused, accepted work goes on."""

import logging
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from ingest_service.clock import SystemClock
from ingest_service.domain.items import Ids
from ingest_service.engines import IdempotencyKey
from ingest_service.engines.embedded.journals import free_space
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.errors import IdempotencyMismatch, StorageUnavailable
from tests.engines.embedded.journals.support import GOOD, accept, ingestion, newest, settle, start

LEAST = 2**28
KEY = IdempotencyKey("k", b"content")


class SteppedClock(SystemClock):
    """A clock whose seconds are counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def monotonic(self) -> float:
        """Return what was counted."""
        return self.seconds


class Disk:
    """A disk with so much space left."""

    def __init__(self) -> None:
        self.free = LEAST
        self.asked = 0

    def statvfs(self, _: object) -> SimpleNamespace:
        """Tell."""
        self.asked += 1
        return SimpleNamespace(f_bavail=self.free // 4_096, f_frsize=4_096)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Give a disk that has just enough space."""
    disk = Disk()
    monkeypatch.setattr(free_space, "os", SimpleNamespace(statvfs=disk.statvfs))
    return disk


@pytest.fixture
def clock() -> SteppedClock:
    """Give a clock at 0."""
    return SteppedClock()


@pytest.fixture
def journal(path: Path, clock: SteppedClock) -> Iterator[SqliteJournal]:
    """Give a journal that wants that much left."""
    with closing(SqliteJournal(path, clock, min_free_disk=LEAST)) as opened:
        yield opened


def test_new_work_is_refused_and_accepted_work_goes_on(
    journal: SqliteJournal, disk: Disk, clock: SteppedClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Until there is space again; that is said once, and so is the end of it."""
    caplog.set_level(logging.INFO, "ingest_service")
    accepted = ingestion(1, Ids([1]))
    accept(journal, accepted)
    disk.free -= 4_096
    accept(journal, ingestion(2))
    clock.seconds += 1
    for sequence in (3, 4):
        with pytest.raises(StorageUnavailable):
            accept(journal, ingestion(sequence))
    settle(journal, accepted, start(journal, accepted), GOOD)
    journal.check()
    disk.free += 4_096
    clock.seconds += 1
    accept(journal, ingestion(5))

    assert [one.sequence for one in journal.finished(newest())] == [1]
    assert [record.message for record in caplog.records] == ["disk_short", "disk_healed"]


def test_what_was_accepted_before_is_answered_again(
    journal: SqliteJournal, disk: Disk, clock: SteppedClock
) -> None:
    """It takes no space; another content under its key is refused as always."""
    first = accept(journal, ingestion(1), KEY)
    disk.free = 0
    clock.seconds += 1

    assert accept(journal, ingestion(2), KEY) == first
    with pytest.raises(IdempotencyMismatch):
        accept(journal, ingestion(3), IdempotencyKey(KEY.key, b"other"))
    with pytest.raises(StorageUnavailable):
        accept(journal, ingestion(4), IdempotencyKey("new", b"content"))


def test_the_disk_is_asked_once_a_second_at_most(
    journal: SqliteJournal, disk: Disk, clock: SteppedClock
) -> None:
    """It costs little, but there are thousands of requests."""
    for tenth in range(20):
        clock.seconds = tenth / 10
        accept(journal, ingestion(tenth))
    assert disk.asked == 2


def test_without_a_bound_it_is_not_asked(path: Path, disk: Disk) -> None:
    """And on a real disk there is space for a test."""
    with closing(SqliteJournal(path)) as journal:
        accept(journal, ingestion(1))
    assert disk.asked == 0
    status = os.statvfs(path.parent)
    assert status.f_bavail * status.f_frsize > 0
