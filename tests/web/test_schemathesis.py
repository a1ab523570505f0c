"""What a tool that knows only the OpenAPI document makes of the running application."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from ingest_service.app import build, create_app
from ingest_service.settings import Settings

# The tool draws at random where hypothesis would rather draw itself.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

_SETTINGS = Settings(settle=0, interval=0, simulated_latency=0)
_PARTS = build(_SETTINGS)
schema = schemathesis.openapi.from_wsgi("/openapi.json", create_app(_SETTINGS, _PARTS))

#: Why data that keeps the schema may be refused all the same: no schema can say these.
_RULES = (
    "/problems/idempotency-mismatch",
    "Another mapping of this request has the same id.",
    "/ingestion_id: This key is missing.",
    "This must be at most 16 deep, with integers of at most 64 bits.",
    "This must be a time with an offset, as in 2026-01-01T12:00:00Z.",
    "This must be a time from 1970 to 9000.",
    "/step: That makes more than 1,000 steps.",
    "/from: This must be before the end of the period.",
)


@pytest.fixture(scope="module", autouse=True)
def worker() -> Iterator[None]:
    """Let the worker run, without any delays, while the tool asks."""
    _PARTS.worker.start()
    yield
    _PARTS.worker.stop()


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Undo what the tool has told the queue as a whole."""
    yield
    _PARTS.service.operator.set_interval(0)
    _PARTS.service.operator.resume()


@schema.parametrize()
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_the_application_does_what_its_document_says(case: "schemathesis.Case[Any]") -> None:
    """All checks of the tool are on, but for what no document can tell it."""
    answer = case.call()
    beyond_schemas = any(rule in answer.text for rule in _RULES)
    case.validate_response(
        answer, excluded_checks=[positive_data_acceptance] if beyond_schemas else []
    )
