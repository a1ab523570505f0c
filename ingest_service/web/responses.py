"""JSON out."""

from datetime import UTC, datetime
from typing import Any

import orjson
from flask import Response


def to_json(value: Any) -> bytes:
    """Return `value` as JSON text; times must have been rendered before."""
    return orjson.dumps(value)


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `value` as a JSON response."""
    return Response(to_json(value), status, headers, mimetype="application/json")


def timestamp(at: datetime | None) -> str | None:
    """Return `at` as RFC 3339 in UTC with `Z`, to the millisecond."""
    if at is None:
        return None
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
