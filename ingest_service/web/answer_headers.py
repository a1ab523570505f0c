"""What every answer has in its head, also one that no view had a hand in."""

import re
from typing import Any

from flask import Response

from ingest_service.domain.ids import fresh_id

#: Where a request's environment has the id, once it was asked for.
_NAME = "ingest.request_id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def request_id_of(environ: dict[str, Any]) -> str:
    """Return the caller's request id if it is harmless, otherwise a new one; always the same."""
    name: str | None = environ.get(_NAME)
    if name is None:
        told: str = environ.get("HTTP_X_REQUEST_ID", "")
        name = environ[_NAME] = told if _REQUEST_ID.fullmatch(told) else fresh_id()
    return name


def complete_head(response: Response, request_id: str) -> Response:
    """Name the request, and keep browsers from guessing and keeping what is answered."""
    headers = response.headers
    headers.add("X-Request-ID", request_id)
    headers.add("X-Content-Type-Options", "nosniff")
    # `in` would raise an exception, and catch it, to say no.
    if not headers.getlist("Cache-Control"):
        headers.add("Cache-Control", "no-store")
    return response
