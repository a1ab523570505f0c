"""JSON out."""

from datetime import UTC, datetime
from typing import Any

from flask import Response

from ingest_service import json_text

MEDIA_TYPE = "application/json"


def to_json(value: Any) -> bytes:
    """Return `value` as JSON text; times must have been rendered before."""
    return json_text.dumps(value)


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `value` as a JSON response."""
    return Response(to_json(value), status, headers, mimetype=MEDIA_TYPE)


def timestamp(at: datetime | None) -> str | None:
    """Return `at` as RFC 3339 in UTC with `Z`, to the millisecond."""
    if at is None:
        return None
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
