"""JSON out."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from flask import Response, request, send_from_directory
from werkzeug.datastructures import Headers

from ingest_service import json_text

MEDIA_TYPE = "application/json"
#: What a 304 depends on.
_KNOWN = ("REQUEST_METHOD", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE")


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
        fields.add("Content-Type", media_type)
        fields.add("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            fields.add(name, value)
        super().__init__([body], status, fields)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer a request (PEP 3333); as it is, but for an answer that has no body."""
        if self.status_code == 304 or environ["REQUEST_METHOD"] == "HEAD":
            return super().__call__(environ, start_response)
        start_response(self.status, self.headers.to_wsgi_list())
        return cast(list[bytes], self.response)


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
    return unless_known(response)


def unless_known(response: Response) -> Response:
    """Return `response`, or 304 if the client has said that it knows it.

    Other conditions, and `Range`, are not looked at, as what only reads may do (RFC 9110,
    sections 13.1.1 and 14.2): they would have it refused, or told in part.
    """
    environ = request.environ
    response.make_conditional({name: environ[name] for name in _KNOWN if name in environ})
    return response


def file(folder: Path, name: str, max_age: int) -> Response:
    """Return a file of ours, or 304 if the client has said that it knows it."""
    found = send_from_directory(folder, name, max_age=max_age, conditional=False)
    return unless_known(found)


@lru_cache(maxsize=1024)
def timestamp(at: datetime | None) -> str | None:
    """Return `at` as RFC 3339 in UTC with `Z`, to the millisecond.

    The same moments are told again and again: to everybody who polls, of all items of a batch.
    """
    if at is None:
        return None
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    # What the time zone adds is cut off: `+00:00`.
    return at.isoformat(timespec="milliseconds")[:-6] + "Z"
