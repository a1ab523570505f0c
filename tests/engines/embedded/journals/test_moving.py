"""A journal that is moved to another file: everything arrives, and goes on."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings

from ingest_service.domain.retry_policy import RetryPolicy
from ingest_service.engines.embedded.journals.exporting import export
from ingest_service.engines.embedded.journals.files import verify
from ingest_service.engines.embedded.journals.importing import import_into
from tests.moving import (
    STORIES,
    STORY,
    Step,
    begun_and_ended,
    exported,
    reader,
    told_in_a_file,
)


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

        here = begun_and_ended(moved, submitted, later)

        # Where it was it waits for what is left of the interval.
        there = begun_and_ended(original, submitted, later, waits=False)
        assert here == there
