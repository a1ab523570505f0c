"""The examples of the documents that clients were written from: requests and whole answers.

NO LATER CHANGE MAY EDIT WHAT IS EXPECTED HERE. Scripts rely on it word for word; a change that
needs another answer breaks them and has to find another way. New keys may join an answer, where
clients of the older contracts ignore them; `/` and `/ingest` answer exactly this and nothing else.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from ingest_service.domain.model import Batch, Outcome
from ingest_service.settings import Settings
from tests.support import Api, serving

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
IDS = {"ids": [1, 2, 3, 4, 5], "priority": "HIGH"}
MAPPINGS = {
    "mappings": [
        {
            "id": "map_001",
            "source": "crm.customer",
            "target": "erp.client",
            "transformation": {"name": "upper"},
        },
        {"id": "map_002", "source": "crm.order", "target": "erp.sale"},
    ],
    "priority": "MEDIUM",
}


def at(seconds: float) -> str:
    """Return the time `seconds` after twelve, when time was frozen."""
    return f"2026-01-01T12:00:{seconds:06.3f}Z"


def counts(**given: int) -> dict[str, int]:
    """Return counts of which only some are not zero."""
    words = ("queued", "in_flight", "succeeded", "failed", "cancelled")
    return {"total": sum(given.values())} | dict.fromkeys(words, 0) | given


def reply(batch: Batch) -> list[Outcome]:
    """Succeed, but for `map_002`."""
    return [
        Outcome(succeeded=False, error="no such target")
        if isinstance(item, dict) and item["id"] == "map_002"
        else Outcome(succeeded=True, processed_data={"data": "processed"})
        for item in batch.items
    ]


@pytest.fixture
def still() -> Iterator[Api]:
    """Give a service with its default settings, whose worker rests until time is advanced."""
    with serving(Settings(), threaded=False) as served:
        served.upstream.reply = reply
        yield served


class Talk:
    """A conversation in which every id goes by the order of its appearance."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._names: dict[str, str] = {}

    def post(self, body: dict[str, Any]) -> tuple[Any, str]:
        """Post `body`; return the answer and where it leads."""
        answer = self._api.client.post("/ingest", json=body)
        assert (answer.status_code, answer.content_type) == (200, "application/json")
        return self._named(answer.get_json()), answer.headers["Location"]

    def get(self, path: str) -> Any:
        """Return the answer of `path`."""
        answer = self._api.client.get(path)
        assert (answer.status_code, answer.content_type) == (200, "application/json")
        return self._named(answer.get_json())

    def _named(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._named(below) for key, below in value.items()}
        if isinstance(value, list):
            return [self._named(below) for below in value]
        if isinstance(value, str) and UUID4.fullmatch(value):
            return self._names.setdefault(value, f"id {len(self._names) + 1}")
        return value


def told(answer: Any, golden: Any) -> Any:
    """Return of `answer` what `golden` has keys for."""
    if isinstance(golden, dict) and isinstance(answer, dict):
        return {key: told(answer[key], golden[key]) for key in golden if key in answer}
    if isinstance(golden, list) and isinstance(answer, list) and len(golden) == len(answer):
        return [told(one, other) for one, other in zip(answer, golden, strict=True)]
    return answer


def test_the_greeting(still: Api) -> None:
    assert Talk(still).get("/") == {"message": "Ingestion API is live!"}


def test_the_health(still: Api) -> None:
    talk = Talk(still)
    golden = {"status": "healthy", "timestamp": at(0), "active_requests": 0}
    assert told(talk.get("/health"), golden) == golden
    talk.post(IDS)
    still.advance(3)
    golden = {"status": "healthy", "timestamp": at(3), "active_requests": 1}
    assert told(talk.get("/health"), golden) == golden


def test_ids_are_accepted(still: Api) -> None:
    answer, location = Talk(still).post(IDS)
    assert answer == {"ingestion_id": "id 1"}
    assert re.fullmatch("/status/" + UUID4.pattern, location)


def test_ids_are_followed(still: Api) -> None:
    talk = Talk(still)
    _, where = talk.post(IDS)
    golden: dict[str, Any] = {
        "ingestion_id": "id 1",
        "status": "yet_to_start",
        "batches": [
            {"batch_id": "id 2", "ids": [1, 2, 3], "status": "yet_to_start", "outcome": None},
            {"batch_id": "id 3", "ids": [4, 5], "status": "yet_to_start", "outcome": None},
        ],
        "batches_total": 2,
        "progress": 0,
        "priority": "HIGH",
        "created_at": at(0),
        "started_at": None,
        "finished_at": None,
        "outcome": None,
        "counts": counts(queued=5),
        "queue": {"position": 1, "batches_ahead": 0},
        "eta": {"next_start_at": at(0.45), "finish_at": at(6.45), "latest_finish_at": None},
        "why_waiting": {"code": "settling", "until": at(0.45)},
    }
    assert told(talk.get(where), golden) == golden

    still.advance(3)
    golden |= {
        "status": "triggered",
        "batches": [
            {"batch_id": "id 2", "ids": [1, 2, 3], "status": "completed", "outcome": "succeeded"},
            {"batch_id": "id 3", "ids": [4, 5], "status": "yet_to_start", "outcome": None},
        ],
        "progress": 60,
        "started_at": at(0.45),
        "counts": counts(queued=2, succeeded=3),
        "eta": {"next_start_at": at(5.45), "finish_at": at(6.45), "latest_finish_at": None},
        "why_waiting": {"code": "rate_limit", "until": at(5.45)},
    }
    assert told(talk.get(where), golden) == golden

    still.advance(5)
    golden |= {
        "status": "completed",
        "batches": [
            {"batch_id": "id 2", "ids": [1, 2, 3], "status": "completed", "outcome": "succeeded"},
            {"batch_id": "id 3", "ids": [4, 5], "status": "completed", "outcome": "succeeded"},
        ],
        "progress": 100,
        "finished_at": at(6.45),
        "outcome": "succeeded",
        "counts": counts(succeeded=5),
        "queue": None,
        "eta": None,
        "why_waiting": None,
    }
    assert told(talk.get(where), golden) == golden


def test_ids_have_results(still: Api) -> None:
    talk = Talk(still)
    _, where = talk.post(IDS)
    still.advance(8)

    def result(number: int, seconds: float) -> dict[str, Any]:
        return {
            "id": number,
            "status": "success",
            "processed_data": {"data": "processed"},
            "timestamp": at(seconds),
            "attempts": 1,
            "status_code": None,
        }

    golden = {
        "ingestion_id": "id 1",
        "status": "completed",
        "total_ids": 5,
        "processed_ids": 5,
        "failed_ids": 0,
        "complete": True,
        "results": [
            *(result(number, 1.45) for number in (1, 2, 3)),
            *(result(number, 6.45) for number in (4, 5)),
        ],
    }
    assert told(talk.get(f"{where}/results"), golden) == golden


def test_mappings_are_accepted(still: Api) -> None:
    answer, location = Talk(still).post(MAPPINGS)
    assert answer == {
        "request_id": "id 1",
        "status": "pending",
        "message": "Ingestion request created successfully. 2 mappings queued for processing.",
    }
    assert re.fullmatch("/status/" + UUID4.pattern, location)


def test_mappings_are_followed(still: Api) -> None:
    talk = Talk(still)
    _, where = talk.post(MAPPINGS)
    batch = {"batch_id": "id 2", "mapping_ids": ["map_001", "map_002"]}
    golden: dict[str, Any] = {
        "request_id": "id 1",
        "status": "pending",
        "progress": 0,
        "total_mappings": 2,
        "processed_mappings": 0,
        "failed_mappings": 0,
        "details": None,
        "batches": [batch | {"status": "pending", "outcome": None}],
        "batches_total": 1,
        "priority": "MEDIUM",
        "created_at": at(0),
        "started_at": None,
        "finished_at": None,
        "outcome": None,
        "counts": counts(queued=2),
    }
    assert told(talk.get(where), golden) == golden

    still.advance(1)
    golden |= {
        "status": "in_progress",
        "batches": [batch | {"status": "in_progress", "outcome": None}],
        "started_at": at(0.45),
        "counts": counts(in_flight=2),
    }
    assert told(talk.get(where), golden) == golden

    still.advance(1)
    golden |= {
        "status": "completed",
        "progress": 100,
        "processed_mappings": 1,
        "failed_mappings": 1,
        "details": "1 of 2 mappings failed; the results say why.",
        "batches": [batch | {"status": "completed", "outcome": "partially_failed"}],
        "finished_at": at(1.45),
        "outcome": "partially_failed",
        "counts": counts(succeeded=1, failed=1),
    }
    assert told(talk.get(where), golden) == golden


def test_mappings_have_results(still: Api) -> None:
    talk = Talk(still)
    _, where = talk.post(MAPPINGS)
    still.advance(5)
    golden = {
        "request_id": "id 1",
        "status": "completed",
        "total_mappings": 2,
        "processed_mappings": 1,
        "failed_mappings": 1,
        "complete": True,
        "results": [
            {
                "mapping_id": "map_001",
                "status": "success",
                "processed_data": {"data": "processed"},
                "timestamp": at(1.45),
                "attempts": 1,
                "status_code": None,
            },
            {
                "mapping_id": "map_002",
                "status": "failed",
                "error": "no such target",
                "timestamp": at(1.45),
                "attempts": 1,
                "status_code": None,
            },
        ],
    }
    assert told(talk.get(f"{where}/results"), golden) == golden
