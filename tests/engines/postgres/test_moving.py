"""A journal that is moved between a file and a database, in both directions."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from ingest_service.domain.retry_policy import RetryPolicy
from ingest_service.engines.embedded.journals import exporting as from_file
from ingest_service.engines.embedded.journals import importing as to_file
from ingest_service.engines.postgres.exporting import export
from ingest_service.engines.postgres.importing import import_into
from ingest_service.errors import JournalUnusable
from tests.moving import (
    SETTINGS,
    STORIES,
    STORY,
    Step,
    begin_and_end,
    begun_and_ended,
    exported,
    reader,
    tell,
    told_in_a_file,
)
from tests.postgres import serving_on_postgres, wipe


@pytest.fixture(autouse=True, scope="module")
def _longest() -> Iterator[None]:
    """Let every wait for another attempt be the longest that chance allows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ingest_service.app.RetryPolicy", partial(RetryPolicy, chance=lambda: 1.0))
        yield


def test_from_a_file_to_a_database_and_back(database: str, tmp_path: Path) -> None:
    """The lines are equal everywhere, and so is the order in which everything ends."""
    original, back = tmp_path / "original", tmp_path / "back"
    submitted, later = told_in_a_file(original, STORY)
    text = exported(from_file.export, str(original))
    wipe(database)
    import_into(database, reader(text))
    assert exported(export, database) == text
    to_file.import_into(str(back), reader(text))
    assert exported(from_file.export, str(back)) == text

    with serving_on_postgres(database, SETTINGS, 2, at=later, anew=False) as api:
        on_database = begin_and_end(api, submitted)

    assert on_database == begun_and_ended(back, submitted, later)


def test_from_a_database_to_a_file(database: str, tmp_path: Path) -> None:
    """With batches under way, taken and lost."""
    moved = tmp_path / "moved"
    with serving_on_postgres(database, SETTINGS, 2) as api:
        submitted = tell(api, STORY)
    to_a_file_and_back(database, moved)
    later = "2026-01-01T12:05:00Z"

    with serving_on_postgres(database, SETTINGS, 2, at=later, anew=False) as api:
        on_database = begin_and_end(api, submitted)

    assert on_database == begun_and_ended(moved, submitted, later)


@hypothesis_settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STORIES)
def test_whatever_has_happened_the_lines_are_equal(
    database: str, tmp_path: Path, story: list[Step]
) -> None:
    """From a database, to a file, to a database."""
    moved = tmp_path / "moved"
    moved.unlink(missing_ok=True)
    with serving_on_postgres(database, SETTINGS, 2) as api:
        tell(api, story)
    to_a_file_and_back(database, moved)
    with psycopg.connect(database) as connection:
        assert sums(connection) == connection.execute("SELECT batches, items FROM depth").fetchone()


def to_a_file_and_back(database: str, moved: Path) -> None:
    """Move everything to a journal and back; it says the same each time."""
    text = exported(export, database)
    to_file.import_into(str(moved), reader(text))
    assert exported(from_file.export, str(moved)) == text
    wipe(database)
    import_into(database, reader(text))
    assert exported(export, database) == text


def sums(connection: psycopg.Connection[Any]) -> Any:
    """Return what waits, counted anew."""
    return connection.execute(
        """SELECT array_agg(batches ORDER BY class), array_agg(items ORDER BY class) FROM (
               SELECT class, coalesce(sum(left_), 0)::bigint AS batches,
                      coalesce(sum(queued), 0)::bigint AS items
               FROM generate_series(1, 3) AS class LEFT JOIN ingestion ON priority = class
               GROUP BY class) AS by_class"""
    ).fetchone()


def test_what_is_damaged_leaves_nothing_behind(database: str, tmp_path: Path) -> None:
    path = tmp_path / "original"
    told_in_a_file(path, STORY)
    text = exported(from_file.export, str(path))
    wipe(database)
    before = exported(export, database)
    for damaged in (text[:-1], text[: len(text) // 2], text.replace(b'"LOW"', b'"low"')):
        with pytest.raises(JournalUnusable, match="nothing was imported"):
            import_into(database, reader(damaged))
    assert exported(export, database) == before


def test_only_an_empty_database_that_nobody_uses_is_filled(database: str) -> None:
    wipe(database)
    empty = exported(export, database)
    name = "ingest_service"
    with (
        psycopg.connect(database, application_name=name),
        pytest.raises(JournalUnusable, match="Replicas or workers use this database"),
    ):
        import_into(database, reader(empty))
    with serving_on_postgres(database, SETTINGS, 1) as api:
        api.ingest([1])
    with pytest.raises(JournalUnusable, match="The database is not empty"):
        import_into(database, reader(empty))


def test_what_a_database_cannot_keep_is_said_in_a_line(database: str, tmp_path: Path) -> None:
    wipe(database)
    path = tmp_path / "original"
    told_in_a_file(path, [("pause",)])
    with closing(apsw.Connection(str(path))) as db:
        db.execute("""UPDATE operator SET state = '{"paused": "lunch\\u0000"}'""").fetchall()
    text = exported(from_file.export, str(path))
    with pytest.raises(JournalUnusable, match="cannot be kept in this database") as caught:
        import_into(database, reader(text))
    assert "\n" not in str(caught.value)
