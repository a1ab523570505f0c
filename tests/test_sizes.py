"""A file is about one subject; a long one is about two."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("folder", "most"), [("ingest_service", 400), ("tests", 500)])
def test_no_file_is_longer_than_can_be_kept_in_mind(folder: str, most: int) -> None:
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
        for path in (ROOT / folder).rglob("*.py")
    }
    assert lines
    assert {name: count for name, count in lines.items() if count > most} == {}
