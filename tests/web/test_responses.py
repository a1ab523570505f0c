"""JSON out: whatever an answer holds, it is written, and exactly."""

import json
import math
from typing import Any

import pytest

from ingest_service.domain.model import OutcomeWord
from ingest_service.web.responses import to_json
from tests.support import Api

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


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/queue", "/queue/history", "/ingestions", "/audit", "/rate-proof"),
        *("/openapi.json", "/docs", "/docs/swagger-ui.css", "/static/reference.css", "/redoc"),
        *("/dashboard", "/dashboard/static/live.js", "/problems/conflict"),
        *("/status/{}", "/status?ingestion_id={}", "/status/{}/results", "/dashboard/find?id={}"),
    ],
)
def test_what_is_only_read_is_answered_whole_on_any_condition_but_that_it_is_known(
    still: Api, path: str
) -> None:
    """The others would have it refused, or told in part, which is of no use here."""
    path = path.format(still.ingest([1, 2, 3]))
    with still.client.get(path) as plain:
        whole, tag = plain.data, plain.headers.get("ETag")
        assert "Accept-Ranges" not in plain.headers
    others = {
        "If-Match": '"x"',
        "If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT",
        "Range": "bytes=0-0",
    }
    status = plain.status_code
    for headers in [*({name: value} for name, value in others.items()), others]:
        with still.client.get(path, headers=headers) as answer:
            assert (answer.status_code, answer.data == whole) == (status, True)
    if tag is not None:
        with still.client.get(path, headers={**others, "If-None-Match": tag}) as known:
            assert (known.status_code, known.data) == (304, b"")
