"""JSON out."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flask import Response, request
from werkzeug.datastructures import Headers

from ingest_service import json_text

MEDIA_TYPE = "application/json"


class JsonResponse(Response):
    """JSON whose head is known when it is made, so that nothing is looked up to send it."""

    def __init__(
        self,
        body: bytes,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str = MEDIA_TYPE,
    ) -> None:
        fields = Headers()
        for name, value in (headers or {}).items():
            fields.add(name, value)
        # That sets the length as well.
        super().__init__(body, status, fields, content_type=media_type)

    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        """Return the headers as they are, but for an answer that has no body."""
        if self.status_code == 304:
            return super().get_wsgi_headers(environ)
        return self.headers


def to_json(value: Any) -> bytes:
    """Return `value` as JSON text; times must have been rendered before."""
    return json_text.dumps(value)


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `value` as a JSON response."""
    return JsonResponse(to_json(value), status, headers)


def conditional(response: Response) -> Response:
    """Return `response` with an `ETag`, or 304 if the client has said that it knows it."""
    digest = hashlib.blake2b(response.get_data(), digest_size=16).hexdigest()
    response.set_etag(digest)
    response.headers["Cache-Control"] = "no-cache"
    response.make_conditional(request)
    return response


def timestamp(at: datetime | None) -> str | None:
    """Return `at` as RFC 3339 in UTC with `Z`, to the millisecond."""
    if at is None:
        return None
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    # What the time zone adds is cut off: `+00:00`.
    return at.isoformat(timespec="milliseconds")[:-6] + "Z"
