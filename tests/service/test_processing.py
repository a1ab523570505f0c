"""What becomes of a batch: states, results, and an upstream that misbehaves."""

from typing import Any

import pytest

from ingest_service.domain.model import Batch, Outcome
from tests.support import Api


def states(document: dict[str, Any]) -> list[str]:
    """Return the overall state and then the batches'."""
    return [document["status"], *(batch["status"] for batch in document["batches"])]


def test_an_ingestion_goes_from_yet_to_start_over_triggered_to_completed(api: Api) -> None:
    """Between two batches it is triggered: all are not equal, and not all are settled."""
    ingestion_id = api.ingest([1, 2, 3, 4])
    seen = []
    for seconds in (0, 0.45, 1, 4, 1):
        api.advance(seconds)
        seen.append(states(api.status(ingestion_id)))

    assert seen == [
        ["yet_to_start", "yet_to_start", "yet_to_start"],
        ["triggered", "triggered", "yet_to_start"],
        ["triggered", "completed", "yet_to_start"],
        ["triggered", "completed", "triggered"],
        ["completed", "completed", "completed"],
    ]


def test_mappings_go_from_pending_over_in_progress_to_completed(api: Api) -> None:
    """The same states in the words of the other family."""
    request_id = api.ingest_mappings(6)
    seen = []
    for seconds in (0, 0.45, 1, 4, 1):
        api.advance(seconds)
        document = api.status(request_id)
        seen.append((document["status"], document["progress"], document["processed_mappings"]))

    assert seen == [
        ("pending", 0, 0),
        ("in_progress", 0, 0),
        ("in_progress", 83, 5),
        ("in_progress", 83, 5),
        ("completed", 100, 6),
    ]


def test_what_was_stored_is_still_there_for_later_requests(api: Api) -> None:
    """Other requests do not disturb it, and it stays after it has finished."""
    first, second = api.ingest([1]), api.ingest([2])
    api.advance(60)

    assert api.status(first)["batches"][0]["ids"] == [1]
    assert api.status(second)["batches"][0]["ids"] == [2]
    assert api.status(first)["status"] == api.status(second)["status"] == "completed"


def test_the_answer_does_not_wait_for_the_work(api: Api) -> None:
    """The id comes back while nothing was sent."""
    ingestion_id = api.ingest([1, 2, 3])

    assert api.sent() == []
    assert api.status(ingestion_id)["counts"]["queued"] == 3


def test_times_tell_when_it_was_accepted_started_and_finished(api: Api) -> None:
    """RFC 3339 in UTC; null while it has not happened."""
    ingestion_id = api.ingest([1, 2, 3, 4])
    before = api.status(ingestion_id)
    api.advance(10)
    after = api.status(ingestion_id)

    assert (before["started_at"], before["finished_at"], before["outcome"]) == (None, None, None)
    assert after["created_at"] == "2026-01-01T12:00:00.000Z"
    assert after["started_at"] == "2026-01-01T12:00:00.450Z"
    assert after["finished_at"] == "2026-01-01T12:00:06.450Z"
    assert after["outcome"] == "succeeded"


def test_results_tell_what_became_of_every_item(api: Api) -> None:
    """In the order of the items, with the time at which each was settled."""
    api.upstream.reply = lambda batch: [
        Outcome(succeeded=item != 2, processed_data={"got": item}, error="no such id")
        for item in batch.items
    ]
    ingestion_id = api.ingest([1, 2])
    api.advance(2)

    assert api.results(ingestion_id)["results"] == [
        {
            "id": 1,
            "status": "success",
            "processed_data": {"got": 1},
            "timestamp": "2026-01-01T12:00:01.450Z",
            "attempts": 1,
            "status_code": None,
        },
        {
            "id": 2,
            "status": "failed",
            "error": "no such id",
            "timestamp": "2026-01-01T12:00:01.450Z",
            "attempts": 1,
            "status_code": None,
        },
    ]
    assert api.results(ingestion_id, outcome="failed")["results"][0]["id"] == 2
    assert api.status(ingestion_id)["outcome"] == "partially_failed"
    assert api.status(ingestion_id)["status"] == "completed"


def test_results_of_a_running_ingestion_are_those_settled_so_far(api: Api) -> None:
    """`complete` says whether more will come."""
    ingestion_id = api.ingest([1, 2, 3, 4])
    api.advance(2)
    part = api.results(ingestion_id)
    api.advance(10)
    whole = api.results(ingestion_id)

    assert ([each["id"] for each in part["results"]], part["complete"]) == ([1, 2, 3], False)
    assert ([each["id"] for each in whole["results"]], whole["complete"]) == ([1, 2, 3, 4], True)


def test_an_ingestion_is_failed_only_if_every_item_failed(api: Api) -> None:
    """One word for the status, a finer one in `outcome`."""
    api.upstream.reply = lambda batch: [Outcome(succeeded=False, error="no")] * len(batch.items)
    ingestion_id = api.ingest([1, 2, 3, 4])
    api.advance(10)
    document = api.status(ingestion_id)

    assert states(document) == ["completed", "completed", "completed"]
    assert [batch["outcome"] for batch in document["batches"]] == ["failed", "failed"]
    assert (document["outcome"], document["progress"]) == ("failed", 100)


def explode(batch: Batch) -> Any:
    """Raise what no upstream should."""
    raise ZeroDivisionError(batch.batch_id)


@pytest.mark.parametrize(
    "misbehaviour",
    [explode, lambda _: None, lambda _: [], lambda _: [Outcome(succeeded=True)] * 9, lambda _: 7],
    ids=["raises", "returns-none", "too-few", "too-many", "not-a-list"],
)
def test_a_misbehaving_upstream_fails_its_batch_and_the_worker_goes_on(
    api: Api, misbehaviour: Any
) -> None:
    """The next batch is sent at the next slot as if nothing had happened."""
    good = api.upstream.reply
    api.upstream.reply = misbehaviour
    bad_id = api.ingest([1, 2, 3])
    api.advance(2)
    api.upstream.reply = good
    good_id = api.ingest([4])
    api.advance(10)

    assert api.status(bad_id)["counts"]["failed"] == 3
    assert "upstream crashed" in api.results(bad_id)["results"][0]["error"]
    assert api.status(good_id)["status"] == "completed"
    assert [at for at, _ in api.sent()] == [0.45, 5.45]
