"""What became of the items."""

from typing import Any

from ingest_service.domain.model import Outcome
from tests.support import Api
from tests.web.support import half


def test_the_results_of_ids_are_listed_item_by_item(api: Api) -> None:
    api.upstream.reply = lambda _: [
        Outcome(succeeded=True, processed_data={"any": "thing"}),
        Outcome(succeeded=False, error="no such id", status_code=404),
    ]
    ingestion_id = api.ingest([7, 8])
    api.advance(5)

    both = {"timestamp": "2026-01-01T12:00:01.450Z", "attempts": 1}
    assert api.results(ingestion_id) == {
        "ingestion_id": ingestion_id,
        "status": "completed",
        "total_ids": 2,
        "processed_ids": 1,
        "failed_ids": 1,
        "complete": True,
        "submitted_by": None,
        "results": [
            {
                "id": 7,
                "status": "success",
                "processed_data": {"any": "thing"},
                "status_code": None,
                **both,
            },
            {"id": 8, "status": "failed", "error": "no such id", "status_code": 404, **both},
        ],
    }


def test_the_results_of_mappings_use_the_words_of_their_clients(api: Api) -> None:
    request_id = api.ingest_mappings(1)
    api.advance(5)

    assert api.results(request_id) == {
        "request_id": request_id,
        "status": "completed",
        "total_mappings": 1,
        "processed_mappings": 1,
        "failed_mappings": 0,
        "complete": True,
        "submitted_by": None,
        "results": [
            {
                "mapping_id": "m0",
                "status": "success",
                "processed_data": {"got": {"id": "m0", "source": "s", "target": "t"}},
                "timestamp": "2026-01-01T12:00:01.450Z",
                "attempts": 1,
                "status_code": None,
            }
        ],
    }


def test_what_is_settled_so_far_can_be_had_while_the_rest_runs(api: Api) -> None:
    ingestion_id = api.ingest([1, 2, 3, 4])
    before = api.results(ingestion_id)
    api.advance(3)
    during = api.results(ingestion_id)

    assert (before["complete"], before["results"]) == (False, [])
    assert (during["complete"], [each["id"] for each in during["results"]]) == (False, [1, 2, 3])


def test_results_can_be_narrowed_to_an_outcome_and_paged(api: Api) -> None:
    api.upstream.reply = half
    ingestion_id = api.ingest([*range(1, 10)])
    api.advance(30)

    def ids(**query: Any) -> list[int]:
        return [each["id"] for each in api.results(ingestion_id, **query)["results"]]

    assert ids() == [*range(1, 10)]
    assert ids(outcome="failed") == [2, 5, 8]
    assert ids(outcome="succeeded") == [1, 3, 4, 6, 7, 9]
    assert ids(offset=2, limit=3) == [3, 4, 5]
    assert ids(outcome="failed", offset=1, limit=1) == [5]
    assert ids(offset=9) == []
