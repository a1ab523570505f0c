"""What several of these tests use."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from flask.testing import FlaskClient

from ingest_service.domain.model import Batch, Outcome

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


IDS = {"ids": [1, 2, 3, 4], "priority": "HIGH"}


def half(batch: Batch) -> list[Outcome]:
    """Let every second item fail."""
    return [
        Outcome(succeeded=False, error="no") if place % 2 else Outcome(succeeded=True)
        for place in range(len(batch.items))
    ]


NO = Outcome(succeeded=False, error="no")


def clock_time(seconds: float) -> str:
    """Return the time `seconds` after the test began, as answers write it."""
    at = datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(seconds=seconds)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def get(client: FlaskClient, path: str, **query: Any) -> dict[str, Any]:
    """Return what a successful answer says."""
    answer = client.get(path, query_string=query)
    assert answer.status_code == 200, answer.text
    return cast(dict[str, Any], answer.get_json())


def post(client: FlaskClient, mappings: list[dict[str, Any]]) -> str:
    """Post urgent mappings; return the id of the ingestion."""
    answer = client.post("/ingest", json={"mappings": mappings, "priority": "HIGH"})
    return str(answer.get_json()["request_id"])


def refused(client: FlaskClient, path: str, **query: Any) -> list[str]:
    """Return what is wrong with a query."""
    answer = client.get(path, query_string=query)
    assert answer.status_code == 400, answer.text
    return [each["pointer"] for each in answer.get_json()["errors"]]


FINE = Outcome(succeeded=True)
