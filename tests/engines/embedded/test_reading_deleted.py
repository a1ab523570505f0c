"""What is deleted while its results are read is not found; a part never looks like the whole."""

from typing import Any

import pytest

from ingest_service.domain.model import ItemState
from ingest_service.errors import IngestionNotFound
from tests.support import Api

FINAL = (ItemState.SUCCEEDED, ItemState.FAILED)

pytestmark = pytest.mark.embedded


@pytest.mark.parametrize("step", ["item_states", "results", "keys"])
def test_it_is_not_found_at_whichever_step_it_is_deleted(still: Api, step: str) -> None:
    ingestion_id = still.ingest([1, 2, 3, 4])
    still.advance(70)
    journal: Any = still.parts.journal
    read = getattr(journal, step)

    def deleted_before(*question: Any) -> Any:
        still.parts.service.operator.delete(ingestion_id)
        setattr(journal, step, read)
        return read(*question)

    setattr(journal, step, deleted_before)
    with pytest.raises(IngestionNotFound):
        still.parts.service.queries.results(ingestion_id, FINAL, 0, 100)


def test_it_is_not_found_from_when_its_deletion_is_on_record(still: Api) -> None:
    """Memory learns of it a moment later."""
    ingestion_id = still.ingest([1, 2, 3])
    still.advance(5)
    journal, seen = still.parts.journal, []
    record: Any = journal.record

    def look_after(*changes: Any) -> None:
        record(*changes)
        with pytest.raises(IngestionNotFound):
            still.parts.service.queries.results(ingestion_id, FINAL, 0, 100)
        seen.append(changes)

    journal.record = look_after  # type: ignore[method-assign]
    still.parts.service.operator.delete(ingestion_id)
    assert seen
