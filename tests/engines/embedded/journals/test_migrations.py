"""Files of older versions: brought up to date, with a way back."""

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest

from ingest_service.domain.items import Ids, Mappings
from ingest_service.domain.model import ItemState
from ingest_service.engines import Hold, IdempotencyKey, OperatorState
from ingest_service.engines.audit import Action, AuditQuery
from ingest_service.engines.embedded.journals.files import restore
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.engines.embedded.journals.statements import MIGRATIONS
from ingest_service.errors import JournalUnusable
from tests.engines.embedded.journals.support import MAPPING, NOW, accept, ingestion, newest

LATER = NOW + timedelta(hours=1)


def old_file(path: Path, version: int) -> apsw.Connection:
    """Make a file as the service of that version would have."""
    db = apsw.Connection(str(path))
    for step in range(1, version + 1):
        db.execute(MIGRATIONS[str(step)]).fetchall()
    db.execute(f"PRAGMA user_version = {version}").fetchall()
    return db


def fill(db: apsw.Connection, version: int) -> None:
    """Write an unfinished ingestion of ids and a finished one of mappings."""
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
    if version == 2:
        db.execute("UPDATE ingestion SET total = 4 WHERE sequence = 1")
        db.execute(
            "UPDATE ingestion SET total = 2, status = 'completed', succeeded = 1, failed = 1"
            " WHERE sequence = 2"
        )


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_an_older_version_is_brought_up_to_date(path: Path, version: int) -> None:
    """Its work goes on, and what it did not count yet is counted."""
    with closing(old_file(path, version)) as db:
        fill(db, version)

    with closing(SqliteJournal(path)) as journal:
        (snapshot,) = journal.finished(newest())
        (unfinished,) = journal.recover().unfinished
        page = journal.find("id-2", range(1))

    assert list(unfinished.submission.items) == [1, 2, 3, 4]
    assert (snapshot.counts.total, snapshot.counts.succeeded, snapshot.counts.failed) == (2, 1, 1)
    assert snapshot.counts.outcome == "partially_failed"
    assert page is not None
    assert (list(page.keys), list(page.states)) == (
        [MAPPING["id"]] * 2,
        [ItemState.SUCCEEDED, ItemState.FAILED],
    )


@pytest.mark.parametrize(
    ("remembered", "state"),
    [
        ({}, None),
        ({"paused": 'yes it\'s "lunch" yes '}, OperatorState(paused='it\'s "lunch" yes ')),
        ({"paused": "yes "}, OperatorState(paused="")),
        ({"paused": "no"}, OperatorState()),
        ({"interval": "0.1 5.0"}, OperatorState(interval=0.1, configured_interval=5.0)),
        ({"interval": "1e-05 5"}, OperatorState(interval=1e-05, configured_interval=5)),
        (
            {"held_until": "2026-01-01T12:00:00.000250+00:00", "paused": "yes x"},
            OperatorState(paused="x", hold=Hold(datetime(2026, 1, 1, 12, 0, 0, 250, UTC), 0.0, "")),
        ),
    ],
)
def test_what_the_operator_wanted_is_taken_over(
    path: Path, remembered: dict[str, str], state: OperatorState | None
) -> None:
    """A text a wish before, one value now."""
    with closing(old_file(path, 2)) as db:
        db.executemany("INSERT INTO remembered VALUES (?, ?)", remembered.items())

    with closing(SqliteJournal(path)) as journal:
        assert journal.recover().operator == state


def test_keys_and_marks_of_an_older_version_are_taken_over(path: Path) -> None:
    """Idempotency keys are nobody's, and what was moved is what the mark is about."""
    key = IdempotencyKey("k", b"content")
    with closing(old_file(path, 3)) as db:
        db.execute("INSERT INTO idempotency_key VALUES ('k', ?, 'id-1', 9)", (b"content",))
        for kind, before, after in (
            (
                "move",
                b'{"ingestion_id":"id-1","priority":"LOW"}',
                b'{"ingestion_id":"id-1","priority":"HIGH"}',
            ),
            ("pause", b"null", b'"lunch"'),
        ):
            db.execute(
                "INSERT INTO mark (at, kind, before, after) VALUES (9, ?, ?, ?)",
                (kind, before, after),
            )
    copy = path.with_name(path.name + ".before-3")

    with closing(SqliteJournal(path)) as journal:
        period = datetime(1970, 1, 1, tzinfo=UTC), datetime(1971, 1, 1, tzinfo=UTC)
        entries = journal.audit(AuditQuery(*period, limit=9))
        assert journal.find_key(key, period[0]) == "id-1"
        assert journal.find_key(replace(key, owner="anna"), period[0]) is None
    assert [entry[2:] for entry in entries] == [
        (None, Action.PAUSE, None, None, "lunch", None),
        (None, Action.MOVE, "id-1", {"priority": "LOW"}, {"priority": "HIGH"}, None),
    ]
    with closing(apsw.Connection(str(copy))) as db:
        assert db.execute("PRAGMA user_version").fetchall() == [(3,)]


def test_a_copy_from_before_the_upgrade_leads_back(path: Path) -> None:
    """It is what it was, only for its owner's eyes, and `restore` takes it."""
    with closing(old_file(path, 2)) as db:
        fill(db, 2)
    copy = path.with_name(path.name + ".before-2")
    SqliteJournal(path).close()
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(apsw.Connection(str(copy))) as db:
        assert db.execute("PRAGMA user_version").fetchall() == [(2,)]
        assert db.execute("SELECT count(*), sum(length(items)) > 0 FROM content").fetchall() == [
            (2, 1)
        ]

    restore(str(path), str(copy))

    with closing(apsw.Connection(str(path))) as db:
        assert db.execute("PRAGMA user_version").fetchall() == [(2,)]
    copy.with_name(copy.name + ".new").write_text("half a copy of an upgrade that was cut short")
    with closing(SqliteJournal(path)) as journal:
        assert len(journal.recover().unfinished) == 1
    assert sorted(each.name for each in path.parent.iterdir() if "before" in each.name) == [
        copy.name
    ]


def test_a_new_file_and_one_of_this_version_need_no_copy(path: Path) -> None:
    """There is nothing to go back to."""
    SqliteJournal(path).close()
    SqliteJournal(path).close()
    assert [one for one in path.parent.iterdir() if "before" in one.name] == []


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    """It may mean what this version cannot know."""
    SqliteJournal(path).close()
    with closing(apsw.Connection(str(path))) as db:
        db.execute("PRAGMA user_version = 999").fetchall()
    with pytest.raises(JournalUnusable, match="newer version"):
        SqliteJournal(path)


def test_the_history_of_an_older_file_begins_with_its_first_start_here(path: Path) -> None:
    """What was before is not counted, and is in nobody's way."""
    with closing(old_file(path, 4)):
        pass
    with closing(SqliteJournal(path)) as journal:
        journal.recover()
        assert (journal.totals(), journal.history(NOW, LATER).rows) == ({}, [])
        accept(journal, ingestion(1))
        (row,) = journal.history(NOW, LATER).rows
        assert (
            row.counts
            == journal.totals()
            == {
                "accepted.LOW.batches": 2,
                "accepted.LOW.items": 4,
            }
        )
