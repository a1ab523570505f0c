"""Where an ingestion is, answer by answer."""

import pytest
from flask.testing import FlaskClient

from ingest_service.domain.model import Outcome
from tests.support import Api
from tests.web.support import IDS, UUID4, half

UNKNOWN = "8f14e45f-ceea-467f-a8f5-1c2b3d4e5f60"


def test_nothing_has_started_right_after_the_post(api: Api) -> None:
    found = api.status(api.ingest([1, 2, 3, 4], "HIGH"))

    batches = found.pop("batches")
    assert [(each["ids"], each["status"]) for each in batches] == [
        ([1, 2, 3], "yet_to_start"),
        ([4], "yet_to_start"),
    ]
    assert all(set(each) == {"batch_id", "ids", "status", "outcome"} for each in batches)
    assert all(UUID4.fullmatch(each["batch_id"]) for each in batches)
    found.pop("ingestion_id")
    assert found == {
        "status": "yet_to_start",
        "batches_total": 2,
        "progress": 0,
        "priority": "HIGH",
        "submitted_by": None,
        "created_at": "2026-01-01T12:00:00.000Z",
        "started_at": None,
        "finished_at": None,
        "outcome": None,
        "counts": {
            "total": 4,
            "queued": 4,
            "in_flight": 0,
            "succeeded": 0,
            "failed": 0,
            "cancelled": 0,
        },
        "queue": {"position": 1, "batches_ahead": 0},
        "eta": {
            "next_start_at": "2026-01-01T12:00:00.450Z",
            "finish_at": "2026-01-01T12:00:06.450Z",
            "latest_finish_at": None,
        },
        "why_waiting": {
            "code": "settling",
            "message": "Requests posted together are put in order.",
            "until": "2026-01-01T12:00:00.450Z",
        },
    }


def test_ids_go_from_yet_to_start_over_triggered_to_completed(api: Api) -> None:
    """Between two batches the whole is still triggered."""
    ingestion_id = api.ingest([1, 2, 3, 4])
    seen = []
    for seconds in (0, 0.5, 3, 2, 5):
        api.advance(seconds)
        found = api.status(ingestion_id)
        states = [batch["status"] for batch in found["batches"]]
        seen.append((found["status"], *states, found["progress"]))

    assert seen == [
        ("yet_to_start", "yet_to_start", "yet_to_start", 0),
        ("triggered", "triggered", "yet_to_start", 0),
        ("triggered", "completed", "yet_to_start", 75),
        ("triggered", "completed", "triggered", 75),
        ("completed", "completed", "completed", 100),
    ]
    assert found["started_at"] == "2026-01-01T12:00:00.450Z"
    assert found["finished_at"] == "2026-01-01T12:00:06.450Z"
    assert found["outcome"] == "succeeded"


def test_mappings_go_from_pending_over_in_progress_to_completed(api: Api) -> None:
    request_id = api.ingest_mappings(6)
    seen = []
    for seconds in (0, 0.5, 3, 5):
        api.advance(seconds)
        found = api.status(request_id)
        states = [batch["status"] for batch in found["batches"]]
        seen.append((found["status"], *states, found["progress"], found["processed_mappings"]))

    assert seen == [
        ("pending", "pending", "pending", 0, 0),
        ("in_progress", "in_progress", "pending", 0, 0),
        ("in_progress", "completed", "pending", 83, 5),
        ("completed", "completed", "completed", 100, 6),
    ]
    assert found["request_id"] == request_id
    assert (found["total_mappings"], found["failed_mappings"]) == (6, 0)
    assert [batch["mapping_ids"] for batch in found["batches"]] == [
        ["m0", "m1", "m2", "m3", "m4"],
        ["m5"],
    ]


def test_failed_items_are_counted_and_do_not_keep_the_rest_from_completing(api: Api) -> None:
    api.upstream.reply = half
    request_id = api.ingest_mappings(5)
    api.advance(5)

    found = api.status(request_id)
    assert (found["status"], found["outcome"]) == ("completed", "partially_failed")
    assert (found["processed_mappings"], found["failed_mappings"]) == (3, 2)


def test_an_ingestion_has_failed_only_if_every_item_has(api: Api) -> None:
    api.upstream.reply = lambda batch: [Outcome(succeeded=False, error="no")] * len(batch.items)
    ingestion_id = api.ingest([1, 2])
    api.advance(5)

    found = api.status(ingestion_id)
    assert (found["status"], found["outcome"], found["progress"]) == ("completed", "failed", 100)
    (batch,) = found["batches"]
    assert (batch["status"], batch["outcome"]) == ("completed", "failed")


def test_the_counts_sum_to_the_total_and_progress_never_falls_at_every_moment(api: Api) -> None:
    api.upstream.reply = half
    ingestion_id, last = api.ingest([*range(1, 8)]), 0
    for _ in range(30):
        found = api.status(ingestion_id)
        counts = found["counts"]
        assert counts.pop("total") == sum(counts.values()) == 7
        assert last <= found["progress"] <= 100
        assert (found["progress"] == 100) == (found["outcome"] is not None)
        last = found["progress"]
        api.advance(0.5)
    assert last == 100


def test_an_ingestion_can_be_named_in_the_query_string(client: FlaskClient) -> None:
    ingestion_id = client.post("/ingest", json=IDS).get_json()["ingestion_id"]

    by_path = client.get(f"/status/{ingestion_id}")
    by_query = client.get("/status", query_string={"ingestion_id": ingestion_id})
    assert by_query.get_json() == by_path.get_json()


def test_a_status_that_names_nobody_is_refused(client: FlaskClient) -> None:
    answer = client.get("/status")
    assert answer.status_code == 400
    assert answer.get_json()["errors"][0]["pointer"] == "/ingestion_id"


def test_batches_are_paged_by_offset_and_limit(client: FlaskClient) -> None:
    body = {"ids": [*range(1, 11)], "priority": "LOW"}
    where = client.post("/ingest", json=body).headers["Location"]
    everything = client.get(where).get_json()["batches"]

    page = client.get(where, query_string={"offset": 1, "limit": 2}).get_json()
    assert page["batches"] == everything[1:3]
    assert page["batches_total"] == 4
    assert client.get(where, query_string={"offset": 3}).get_json()["batches"] == everything[3:]
    assert client.get(where, query_string={"offset": 4}).get_json()["batches"] == []
    assert client.get(where, query_string={"offset": 10**15}).get_json()["batches"] == []


def test_at_most_ten_thousand_batches_are_listed(client: FlaskClient) -> None:
    body = {"ids": [1] * 30_001, "priority": "LOW"}
    found = client.get(client.post("/ingest", json=body).headers["Location"]).get_json()
    assert (len(found["batches"]), found["batches_total"]) == (10_000, 10_001)


@pytest.mark.parametrize(
    "path",
    [f"/status/{UNKNOWN}", f"/status?ingestion_id={UNKNOWN}", f"/status/{UNKNOWN}/results"],
)
def test_an_unknown_id_gets_the_one_text_that_clients_look_for(
    client: FlaskClient, path: str
) -> None:
    answer = client.get(path)
    body = answer.get_json()

    assert answer.status_code == 404
    assert body["detail"] == body["error"] == "Ingestion ID not found"
    assert body["type"] == "/problems/not-found"
