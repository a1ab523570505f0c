"""A journal that is moved to another file: everything arrives, and goes on."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import apsw
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings

from ingest_service.domain.retry_policy import RetryPolicy
from ingest_service.engines.embedded.journals.exporting import export
from ingest_service.engines.embedded.journals.files import verify
from ingest_service.engines.embedded.journals.importing import import_into
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.engines.embedded.journals.statements import VERSION
from ingest_service.errors import JournalUnusable
from tests.moving import STORIES, STORY, Step, begun_and_ended, exported, reader, told_in_a_file
from tests.restarts import restarting


@pytest.fixture(autouse=True, scope="module")
def _longest() -> Iterator[None]:
    """Let every wait for another attempt be the longest that chance allows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ingest_service.app.RetryPolicy", partial(RetryPolicy, chance=lambda: 1.0))
        yield


@given(STORIES)
@example(STORY)
@hypothesis_settings(max_examples=10)
def test_what_is_moved_is_the_same_and_goes_on_in_the_same_order(story: list[Step]) -> None:
    """With equal lines wherever it is, and as it would have gone on where it was."""
    with tempfile.TemporaryDirectory() as folder:
        original, moved = Path(folder) / "original", Path(folder) / "moved"
        submitted, later = told_in_a_file(original, story)
        text = exported(export, str(original))
        import_into(str(moved), reader(text))
        assert exported(export, str(moved)) == text
        verify(str(moved))

        has_started = b'"last_slot_at":null' not in text
        here = begun_and_ended(moved, submitted, later, waits=has_started)

        # Where it was it waits for what is left of the interval.
        there = begun_and_ended(original, submitted, later, waits=False)
        assert here == there


@pytest.fixture
def text(tmp_path: Path) -> bytes:
    """Give what a journal is moved by."""
    path = tmp_path / "exported"
    told_in_a_file(path, [("ids", 9, "LOW"), ("advance", 20), ("mappings", 3, "HIGH")])
    return exported(export, str(path))


def test_what_is_cut_short_or_changed_is_not_imported(path: Path, text: bytes) -> None:
    """Wherever that is; nothing of it is left."""
    lines = text.splitlines(keepends=True)
    at = len(text) // 2
    wrong = [b"".join(lines[:cut]) for cut in range(len(lines))]
    wrong += [text[:at], text[:-1], text + b"{}\n", text[: at - 1] + b"#" + text[at:]]
    wrong += [b"".join([*lines[:3], *lines[4:]]), text.replace(b'"LOW"', b'"HIGH"')]
    wrong += [text.replace(b'"priority":3', b'"priority":1'), b"\xff\n" * 3, b"[1]\n"]
    for damaged in wrong:
        if damaged == text:
            continue
        with pytest.raises(JournalUnusable, match="the file: ") as caught:
            import_into(str(path), reader(damaged))
        assert "\n" not in str(caught.value)
        assert list(path.parent.glob("journal*")) == []


def test_what_a_newer_version_wrote_is_not_imported(path: Path, text: bytes) -> None:
    newer = text.replace(b'{"ingest_service_export":1}', b'{"ingest_service_export":2}')
    with pytest.raises(JournalUnusable, match="written by a newer version"):
        import_into(str(path), reader(newer))


def test_only_an_empty_journal_is_filled(path: Path, text: bytes) -> None:
    """One that was only ever started is empty; one with work in it stays as it is."""
    with restarting(path):
        pass
    import_into(str(path), reader(text))
    with pytest.raises(JournalUnusable, match="is not empty"):
        import_into(str(path), reader(text))
    assert exported(export, str(path)) == text


def test_a_journal_that_is_in_use_is_not_filled(path: Path, text: bytes) -> None:
    with (
        closing(SqliteJournal(path)),
        pytest.raises(JournalUnusable, match="another process uses this journal"),
    ):
        import_into(str(path), reader(text))


def test_a_journal_is_exported_while_it_is_in_use(path: Path) -> None:
    with restarting(path) as lives:
        lives.api.ingest([1, 2, 3])
        before = exported(export, str(path))
        lives.api.ingest([4])
        assert before != exported(export, str(path))
        assert before.count(b'"ingestion":') == 1


def test_what_is_filled_is_for_the_eyes_of_its_owner(path: Path, text: bytes) -> None:
    """Whatever the umask is."""
    before = os.umask(0)
    try:
        import_into(str(path), reader(text))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("number", [999, 4])
def test_a_journal_of_another_format_is_not_exported(path: Path, number: int) -> None:
    """A newer one nobody here understands; an older one is brought up to date by a start."""
    SqliteJournal(path).close()
    with closing(apsw.Connection(str(path))) as db:
        db.execute(f"PRAGMA user_version = {number}").fetchall()
    told = "written by a newer version" if number > VERSION else "start the service with it once"
    with pytest.raises(JournalUnusable, match=told):
        exported(export, str(path))
    if number > VERSION:
        for look in (lambda: verify(str(path)), lambda: import_into(str(path), reader(b""))):
            with pytest.raises(JournalUnusable, match=told):
                look()


def test_a_batch_that_took_the_service_down_too_often_is_not_sent_elsewhere(
    path: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    with restarting(path) as lives:
        lives.api.upstream.latency = 100
        poisonous = lives.api.ingest([1, 2])
        for _ in range(2):
            lives.api.advance(6)
            lives.crash()
        lives.api.advance(6)
        assert len(lives.api.sent()) == 3
    import_into(str(moved), reader(exported(export, str(path))))
    with restarting(moved) as lives:
        assert lives.api.status(poisonous)["counts"]["failed"] == 2
