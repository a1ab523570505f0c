"""JSON out: whatever an answer holds, it is written, and exactly."""

import json
import math
from typing import Any

import pytest

from ingest_service.domain.model import OutcomeWord
from ingest_service.web.responses import to_json

LARGE = 2**64


@pytest.mark.parametrize("number", [LARGE, -LARGE, 10**400, 2**64 - 1, -(2**63), 12.5, -0.0])
def test_a_number_of_any_size_is_written_exactly(number: float) -> None:
    assert to_json({"n": [number]}) == b'{"n":[%s]}' % repr(number).encode()


@pytest.mark.parametrize("beside", [1, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    "value", ["Ünï ✓ \U0001f600", "\0", "</script>", OutcomeWord.FAILED, None, True, 1.5], ids=repr
)
def test_the_rest_reads_the_same_beside_a_large_number(value: Any, beside: int) -> None:
    assert json.loads(to_json([value, {"a": beside}])) == [value, {"a": beside}]


@pytest.mark.parametrize("beside", [1, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_null(value: float, beside: int) -> None:
    """JSON has no word for it."""
    assert to_json({"a": [(value, beside)]}) == b'{"a":[[null,%d]]}' % beside
