"""JSON out."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from flask import Response
from werkzeug.datastructures import Headers

MEDIA_TYPE = "application/json"


class JsonResponse(Response):
    """JSON whose head is known when it is made, so that nothing is looked up to send it."""

    def __init__(
        self, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(body, status, headers, content_type=MEDIA_TYPE)
        self.headers.add("Content-Length", str(len(body)))

    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        """Return the headers as they are, but for an answer that has no body."""
        if self.status_code == 304:
            return super().get_wsgi_headers(environ)
        return self.headers


def to_json(value: Any) -> bytes:
    """Return `value` as JSON text; times must have been rendered before."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return _exactly(value)


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `value` as a JSON response."""
    return JsonResponse(to_json(value), status, headers)


def timestamp(at: datetime | None) -> str | None:
    """Return `at` as RFC 3339 in UTC with `Z`, to the millisecond."""
    if at is None:
        return None
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _exactly(value: Any) -> bytes:
    """Write what orjson refuses: integers of more than 64 bits, halves of surrogate pairs."""
    # Escaped, because such a half has no UTF-8 form.
    text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def _finite(value: Any) -> Any:
    """Replace what is no number, as orjson does, by null."""
    if isinstance(value, dict):
        return {key: _finite(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(below) for below in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
