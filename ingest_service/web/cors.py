"""Letting pages of other origins use the API, those that the operator has named."""

from collections.abc import Sequence

import flask
from flask import Flask, Response

from ingest_service.web.door import same_as_written

_METHODS = "GET, HEAD, POST, PATCH, DELETE, OPTIONS"
_REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-None-Match, X-Request-ID"
_EXPOSED = (
    "ETag, Idempotency-Replayed, Location, RateLimit, RateLimit-Policy, Retry-After, "
    "WWW-Authenticate, X-Request-ID"
)
#: Seconds for which a browser need not ask again.
_MAX_AGE = "600"


class Cors:
    """What is said to pages of `origins`; to others, nothing, and their browsers keep it from them.

    Cookies and the like are never asked for: a page must have a key of its own.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origins)

    def preflight(self, environ: dict[str, str]) -> Response | None:
        """Return the answer to a browser that asks what a page may send, None if it does not."""
        if "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in environ or not self._names(environ):
            return None
        response = Response(status=204)
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        response.headers["Access-Control-Allow-Headers"] = _REQUEST_HEADERS
        response.headers["Access-Control-Max-Age"] = _MAX_AGE
        return response

    def finish(self, response: Response, environ: dict[str, str]) -> Response:
        """Say in an answer whether the page that asked may read it."""
        response.vary.add("Origin")
        if self._names(environ):
            response.headers["Access-Control-Allow-Origin"] = environ["HTTP_ORIGIN"]
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED
        return response

    def _names(self, environ: dict[str, str]) -> bool:
        return same_as_written(environ.get("HTTP_ORIGIN", "")) in self._origins


def init_app(app: Flask, origins: Sequence[str]) -> None:
    """Let pages of `origins` read answers."""
    cors = Cors(origins) if origins else None
    app.extensions["cors"] = cors
    if cors is not None:
        named = cors

        @app.after_request
        def finish(response: Response) -> Response:
            return named.finish(response, flask.request.environ)
