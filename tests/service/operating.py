"""Changing what waits, as an operator does it: what the tests of it have in common."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from werkzeug.test import TestResponse

from ingest_service.domain.model import Batch, Outcome
from tests.support import Api

UNKNOWN = "8f14e45f-ceea-467f-a8f5-1c2b3d4e5f60"
LATER = Outcome(succeeded=False, error="later", transient=True)
NO = Outcome(succeeded=False, error="no")
FINE = Outcome(succeeded=True, processed_data="fine")


def replies(*each: Outcome | Sequence[Outcome]) -> Callable[[Batch], Any]:
    """Answer one batch after the other with `each`, and all after that with success."""
    left = iter(each)

    def reply(batch: Batch) -> Any:
        outcome = next(left, FINE)
        return [outcome] * len(batch.items) if isinstance(outcome, Outcome) else outcome

    return reply


def cancel(api: Api, ingestion_id: str) -> dict[str, Any]:
    """Cancel an ingestion; return the effect."""
    return told(api.client.post(f"/ingestions/{ingestion_id}/cancel"))


def move(api: Api, ingestion_id: str, priority: str) -> dict[str, Any]:
    """Give an ingestion another class; return the effect."""
    return told(api.client.patch(f"/ingestions/{ingestion_id}", json={"priority": priority}))


def retry(api: Api, ingestion_id: str) -> dict[str, Any]:
    """Queue what has failed once more; return the effect."""
    return told(api.client.post(f"/ingestions/{ingestion_id}/retry"))


def pause(api: Api, reason: str = "maintenance") -> dict[str, Any]:
    """Pause the queue; return how it is."""
    return told(api.client.post("/queue/pause", json={"reason": reason}))


def resume(api: Api) -> dict[str, Any]:
    """Resume the queue; return how it is."""
    return told(api.client.post("/queue/resume"))


def set_interval(api: Api, seconds: float) -> dict[str, Any]:
    """Change the interval; return how the queue is."""
    return told(api.client.patch("/queue", json={"interval_seconds": seconds}))


def told(answer: TestResponse) -> dict[str, Any]:
    """Return what a successful answer says."""
    assert answer.status_code == 200, answer.text
    return cast(dict[str, Any], answer.get_json())


def conflict(answer: TestResponse) -> str:
    """Return the reason of a conflict."""
    problem = answer.get_json()
    assert (answer.status_code, problem["type"]) == (409, "/problems/conflict"), problem
    return str(problem["detail"])


def counts(api: Api, ingestion_id: str) -> dict[str, int]:
    """Return the counts that are not 0, after checking that they make up the total."""
    found: dict[str, int] = api.status(ingestion_id)["counts"]
    assert found["total"] == sum(found.values()) - found["total"]
    return {name: number for name, number in found.items() if number and name != "total"}


def words(api: Api, ingestion_id: str) -> list[str]:
    """Return how it ended as a whole and how each batch did, or its state if it has not."""
    status = api.status(ingestion_id)
    return [part["outcome"] or part["status"] for part in (status, *status["batches"])]
