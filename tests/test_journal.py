"""What every journal promises, and what the one in a file promises beyond that."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest

from ingest_service.domain.items import Ids, Items, Mappings
from ingest_service.domain.model import (
    Batch,
    Ingestion,
    ItemState,
    Outcome,
    Priority,
    new_ingestion_id,
)
from ingest_service.engines.embedded.journal import (
    IdempotencyKey,
    Instant,
    Journal,
    Sent,
    Settled,
    Wanted,
)
from ingest_service.engines.embedded.journals import database
from ingest_service.engines.embedded.journals.database import back_up, restore, verify
from ingest_service.engines.embedded.journals.memory import MemoryJournal
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.errors import IdempotencyMismatch, JournalUnusable, StorageUnavailable

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MAPPING = {"id": "m\n1", "source": "s", "target": "t", "transformation": {"deep": [1, None]}}
GOOD = Outcome(succeeded=True, processed_data={"got": [1.5, "é", None]})
BAD = Outcome(succeeded=False, error="no such id")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a file that is not there yet."""
    return tmp_path / "journal.sqlite3"


@pytest.fixture(params=["memory", "sqlite"])
def journal(request: pytest.FixtureRequest, path: Path) -> Iterator[Journal]:
    """Give every journal there is, empty."""
    made: Journal = MemoryJournal() if request.param == "memory" else SqliteJournal(path)
    made.recover()
    yield made
    made.close()


def ingestion(sequence: int, items: Items | None = None, at: datetime = NOW) -> Ingestion:
    """Return an ingestion that nothing has happened to."""
    return Ingestion(
        ingestion_id=new_ingestion_id(),
        sequence=sequence,
        priority=Priority.LOW,
        items=items or Ids([1, 2, 3, 4]),
        batch_size=3,
        created_at=at,
    )


def instant(seconds: float = 0) -> Instant:
    """Return the moment `seconds` after NOW."""
    return Instant(NOW + timedelta(seconds=seconds), 1000 + seconds, "era")


def start(journal: Journal, accepted: Ingestion) -> Batch:
    """Start the next batch of an ingestion."""
    batch = accepted.cut()
    journal.slot_taken(batch, instant())
    accepted.mark(batch, [ItemState.IN_FLIGHT] * len(batch.items), NOW)
    return batch


def settle(journal: Journal, accepted: Ingestion, batch: Batch, *outcomes: Outcome) -> None:
    """End a batch, and its ingestion with the last one."""
    journal.settled(batch, Settled(NOW, outcomes))
    accepted.mark(batch, [outcome.state for outcome in outcomes], NOW)
    if accepted.finished_at:
        journal.finished(accepted)


def finish(journal: Journal, accepted: Ingestion) -> None:
    """Take an ingestion through everything."""
    journal.accepted(accepted, None)
    while accepted.left:
        batch = start(journal, accepted)
        settle(journal, accepted, batch, *[GOOD] * len(batch.items))


def test_results_come_back_as_they_were_settled(journal: Journal) -> None:
    """By index of the batch and place in it, also while the rest is unsettled."""
    accepted = ingestion(1)
    journal.accepted(accepted, None)
    settle(journal, accepted, start(journal, accepted), GOOD, BAD, GOOD)
    start(journal, accepted)

    found = journal.results(accepted.ingestion_id, range(2))

    assert {at: result.outcome for at, result in found.items()} == {
        (0, 0): GOOD,
        (0, 1): BAD,
        (0, 2): GOOD,
    }
    assert found[0, 0].at == NOW


def test_only_the_batches_asked_for_come_back(journal: Journal) -> None:
    """Pages of results do not read the others."""
    accepted = ingestion(1, Ids(range(1, 31)))
    finish(journal, accepted)

    assert {index for index, _ in journal.results(accepted.ingestion_id, [4, 5])} == {4, 5}
    assert journal.results(accepted.ingestion_id, []) == {}
    assert journal.results("nobody", [0]) == {}


def test_settling_a_batch_twice_changes_nothing(journal: Journal) -> None:
    """A worker that could not tell whether it was recorded repeats it."""
    accepted = ingestion(1, Ids([1]))
    journal.accepted(accepted, None)
    batch = start(journal, accepted)
    for _ in range(2):
        journal.settled(batch, Settled(NOW, [BAD]))

    found = journal.results(accepted.ingestion_id, [0])

    assert [result.outcome for result in found.values()] == [BAD]


@pytest.mark.parametrize("items", [Ids([7, 7, 1_000_000_007]), Mappings([MAPPING])])
def test_a_finished_ingestion_can_be_found_as_it_was(journal: Journal, items: Items) -> None:
    """With its items, states and times; an unfinished one is not the journal's to show."""
    accepted = ingestion(1, items)
    journal.accepted(accepted, None)
    assert journal.find(accepted.ingestion_id) is None
    batch = start(journal, accepted)
    settle(journal, accepted, batch, *[BAD] * len(items))

    found = journal.find(accepted.ingestion_id)

    assert found is not None
    assert list(found.items) == list(items)
    assert found.counts == accepted.counts
    assert (found.created_at, found.started_at, found.finished_at) == (NOW, NOW, NOW)
    assert found.priority is Priority.LOW


def test_a_key_stands_for_its_first_request_for_a_day(journal: Journal) -> None:
    """The same content gets the same id, another content is refused, a day later it is free."""
    key, other = IdempotencyKey("k", b"content"), IdempotencyKey("k", b"other content")
    first, again = ingestion(1), ingestion(2)
    much_later = ingestion(3, at=NOW + timedelta(hours=24, seconds=1))

    assert journal.accepted(first, key) == first.ingestion_id
    assert journal.accepted(again, key) == first.ingestion_id
    with pytest.raises(IdempotencyMismatch):
        journal.accepted(ingestion(4), other)
    assert journal.accepted(much_later, other) == much_later.ingestion_id


def test_pruning_forgets_what_finished_before_and_nothing_else(journal: Journal) -> None:
    """Bit by bit, until nothing is left to forget."""
    old = [ingestion(number, Ids(range(1, 10))) for number in range(1, 60)]
    for each in old:
        finish(journal, each)
    unfinished = ingestion(100)
    journal.accepted(unfinished, None)

    assert journal.prune(NOW) == 0
    while journal.prune(NOW + timedelta(seconds=1)):
        pass

    assert [each for each in old if journal.find(each.ingestion_id)] == []
    assert journal.results(old[0].ingestion_id, range(3)) == {}
    settle(journal, unfinished, start(journal, unfinished), GOOD, GOOD, GOOD)


def test_a_journal_may_be_closed_twice(journal: Journal) -> None:
    """Whoever stops last does not have to know."""
    journal.check()
    journal.close()
    journal.close()


@pytest.fixture
def reopened(path: Path) -> Iterator[Callable[[], SqliteJournal]]:
    """Give a function that opens the file anew, as after a crash."""
    opened: list[SqliteJournal] = []

    def reopen() -> SqliteJournal:
        for each in opened:
            each.close()
        opened.append(SqliteJournal(path))
        return opened[-1]

    yield reopen
    for each in opened:
        each.close()


Reopen = Callable[[], SqliteJournal]


def test_unfinished_work_is_recovered_in_its_order(reopened: Reopen) -> None:
    """With the same sequences, so that nothing overtakes over a restart."""
    journal = reopened()
    accepted = [ingestion(number, Mappings([MAPPING])) for number in (1, 2, 3)]
    for each in accepted:
        journal.accepted(each, None)
    settle(journal, accepted[1], start(journal, accepted[1]), GOOD)

    recovered = reopened().recover()

    assert [each.sequence for each in recovered.unfinished] == [1, 3]
    assert list(recovered.unfinished[0].items) == [MAPPING]
    assert recovered.last_sequence == 3
    assert recovered.last_slot == instant()


def test_the_pace_goes_on_from_when_a_request_really_went_out(reopened: Reopen) -> None:
    """Later than the slot if connecting took long; no earlier, and not by another clock."""
    journal, accepted = reopened(), ingestion(1, Ids([1, 2, 3]))
    journal.accepted(accepted, None)
    batch = start(journal, accepted)
    for sent in (Sent(1001.5, "era"), Sent(1000.5, "era"), Sent(9999.0, "other")):
        journal.settled(batch, Settled(NOW, [GOOD] * 3, sent=sent))

    last = reopened().recover().last_slot

    assert last == instant()._replace(monotonic=1001.5)


def test_an_empty_journal_has_nothing_to_go_on_with(reopened: Reopen) -> None:
    """No work, no sequence, no slot."""
    recovered = reopened().recover()

    assert (recovered.unfinished, recovered.hopeless) == ([], [])
    assert (recovered.last_sequence, recovered.last_slot) == (0, None)


def test_a_batch_in_flight_at_the_crash_is_sent_again_before_the_rest(reopened: Reopen) -> None:
    """With the same id, as the same attempt: nobody knows how it ended; settled ones are not."""
    journal, accepted = reopened(), ingestion(1, Ids(range(1, 10)))
    journal.accepted(accepted, None)
    settle(journal, accepted, start(journal, accepted), GOOD, BAD, GOOD)
    lost = start(journal, accepted)

    (recovered,) = reopened().recover().unfinished
    again, rest = recovered.cut(), recovered.cut()

    assert (again.batch_id, again.items, again.attempt) == (lost.batch_id, [4, 5, 6], 1)
    assert (lost.start_no, again.start_no) == (1, 2)
    assert (rest.items, rest.attempt, recovered.left) == ([7, 8, 9], 1, 0)
    assert recovered.counts.succeeded == 2
    assert recovered.counts.status.value == "started"


def test_a_batch_that_was_started_three_times_without_an_end_is_hopeless(reopened: Reopen) -> None:
    """It may well be what crashes the service."""
    accepted = ingestion(1)
    reopened().accepted(accepted, None)
    for _ in range(3):
        journal = reopened()
        (recovered,) = journal.recover().unfinished
        journal.slot_taken(recovered.cut(), instant())

    found = reopened().recover()

    assert [batch.items for batch in found.hopeless] == [[1, 2, 3]]
    assert found.unfinished[0].cut().items == [4]


def test_keys_survive_a_restart(reopened: Reopen) -> None:
    """Whoever did not get the answer before the crash gets it after it."""
    key, first = IdempotencyKey("k", b"content"), ingestion(1)
    reopened().accepted(first, key)

    assert reopened().accepted(ingestion(2), key) == first.ingestion_id


def test_a_second_process_is_refused_in_words(path: Path) -> None:
    """Two paces would be twice the rate."""
    journal = SqliteJournal(path)
    with pytest.raises(JournalUnusable, match="another process uses this journal"):
        SqliteJournal(path)
    journal.close()
    SqliteJournal(path).close()


def test_a_closed_journal_takes_nothing(path: Path) -> None:
    """Instead of waiting for a thread that is gone."""
    journal = SqliteJournal(path)
    journal.close()
    with pytest.raises(StorageUnavailable):
        journal.check()


def test_a_file_that_is_no_journal_is_refused_with_what_to_do(path: Path) -> None:
    """And left as it is."""
    path.write_bytes(b"something else entirely" * 1000)
    with pytest.raises(JournalUnusable, match="put a backup in its place"):
        SqliteJournal(path)
    assert path.read_bytes().startswith(b"something else")


def test_a_file_of_the_first_version_is_brought_up_to_date(path: Path) -> None:
    """Its work goes on, and what it did not count yet is counted."""
    db = apsw.Connection(str(path))
    db.execute(database._MIGRATIONS["1"]).fetchall()
    db.execute("PRAGMA user_version = 1").fetchall()
    for sequence, kind, items, finished_at, item_states in (
        (1, "ids", Ids([1, 2, 3, 4]).to_bytes(), None, None),
        (2, "mappings", Mappings([MAPPING, MAPPING]).to_bytes(), 9, bytes([2, 3])),
    ):
        row = (sequence, f"id-{sequence}", kind, 3, 3, 5, finished_at, item_states)
        db.execute(
            "INSERT INTO ingestion (sequence, ingestion_id, kind, priority, batch_size,"
            " created_at, finished_at, item_states) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        db.execute("INSERT INTO content VALUES (?, ?)", (sequence, items))
    db.close()

    journal = SqliteJournal(path)
    newest, oldest = journal.summaries(Wanted(9, 9, None, None, None, NOW - timedelta(days=99_999)))

    assert [list(each.items) for each in journal.recover().unfinished] == [[1, 2, 3, 4]]
    assert (oldest.counts.total, newest.counts.total) == (4, 2)
    assert (newest.counts.succeeded, newest.counts.failed, newest.counts.outcome) == (
        1,
        1,
        "partially_failed",
    )
    journal.close()


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    """It may mean what this version cannot know."""
    SqliteJournal(path).close()
    db = apsw.Connection(str(path))
    db.execute("PRAGMA user_version = 999").fetchall()
    db.close()
    with pytest.raises(JournalUnusable, match="newer version"):
        SqliteJournal(path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A typing error in the setting is the likely cause."""
    with pytest.raises(JournalUnusable, match=r"nowhere.*is the folder there"):
        SqliteJournal(tmp_path / "nowhere" / "journal.sqlite3")


def test_a_backup_is_a_journal_of_its_own(path: Path, tmp_path: Path) -> None:
    """Made while the first one is open, with everything acknowledged by then."""
    journal = SqliteJournal(path)
    accepted = ingestion(1)
    journal.accepted(accepted, None)
    copy = tmp_path / "copy.sqlite3"
    back_up(str(path), str(copy))

    assert verify(str(copy)) == verify(str(path)) == (1, 1)
    restored = SqliteJournal(copy)
    assert restored.recover().unfinished[0].ingestion_id == accepted.ingestion_id
    restored.close()
    journal.close()


def test_restoring_goes_back_to_the_backup_and_nothing_of_what_came_later_stays(
    path: Path, tmp_path: Path
) -> None:
    """Not even what was only in the WAL of a process that was killed."""
    copy = tmp_path / "copy.sqlite3"
    journal = SqliteJournal(path)
    journal.accepted(ingestion(1), None)
    back_up(str(path), str(copy))
    journal.accepted(ingestion(2), None)
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


def test_the_statements_in_the_files_are_all_in_use() -> None:
    """Nothing is left over in the SQL."""
    source = "".join(
        each.read_text("utf-8") for each in Path(database.__file__).parent.glob("*.py")
    )
    names = set(database.SQL)
    used = {name for name in names if f'"{name}"' in source}
    assert names == used
