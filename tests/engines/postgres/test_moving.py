"""A journal that is moved between a file and a database, in both directions."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ingest_service.domain.retry_policy import RetryPolicy
from ingest_service.engines.embedded.journals import exporting as from_file
from ingest_service.engines.embedded.journals import importing as to_file
from ingest_service.engines.postgres.exporting import export
from ingest_service.engines.postgres.importing import import_into
from tests.moving import (
    SETTINGS,
    STORY,
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
    text = exported(export, database)
    to_file.import_into(str(moved), reader(text))
    assert exported(from_file.export, str(moved)) == text
    wipe(database)
    import_into(database, reader(text))
    assert exported(export, database) == text
    later = "2026-01-01T12:05:00Z"

    with serving_on_postgres(database, SETTINGS, 2, at=later, anew=False) as api:
        on_database = begin_and_end(api, submitted)

    assert on_database == begun_and_ended(moved, submitted, later)
