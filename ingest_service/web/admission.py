"""What a request's head alone decides, in memory: who is let in, and what may take long.

A server calls these before it reads the body; where there is none, `init_app` sees to it.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import flask
from flask import Flask, Response

from ingest_service.web import door
from ingest_service.web.media_type import ADMITTED, reason_not_json
from ingest_service.web.problems import problem

Environ = dict[str, Any]

_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_SUBMIT = ("/ingest", "/ingest/")
_ALWAYS_QUICK = frozenset(("/", "/health", "/health/", "/health/live", "/health/live/"))
_STATUS = re.compile(r"/status/[^/]*/?")


def init_app(app: Flask, allowed_hosts: Sequence[str]) -> None:
    """Let in, or not, before any view."""

    @lru_cache(1_000)
    def strange(
        method: str, path: str, scheme: str, host: str, origin: str | None, site: str
    ) -> str | None:
        headers = {"Host": host, "Sec-Fetch-Site": site}
        if origin is not None:
            headers["Origin"] = origin
        return door.refusal(method, path, scheme, headers, allowed_hosts)

    app.extensions["strange"] = strange
    app.before_request(_admit_request)


def admit(app: Flask, environ: Environ) -> Response | None:
    """Return the answer to a request that is refused whatever its body is; None to let it in."""
    host = environ.get("HTTP_HOST")
    if host is None and environ.get("SERVER_PROTOCOL") == "HTTP/1.1":
        return problem("malformed-request", "The request has no Host header.")
    if environ.get("HTTP_TRANSFER_ENCODING", "chunked").strip().lower() != "chunked":
        return problem("malformed-request", "The only transfer coding that is read is chunked.")
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    strange: str | None = app.extensions["strange"](
        method,
        "/health" if f"{path}/".startswith("/health/") else "/",
        environ["wsgi.url_scheme"],
        host or "",
        environ.get("HTTP_ORIGIN"),
        environ.get("HTTP_SEC_FETCH_SITE", ""),
    )
    if strange is not None:
        return problem("forbidden", strange)
    if method == "POST" and path in _SUBMIT:
        reason = reason_not_json(environ)
        if reason is not None:
            return problem("unsupported-media-type", reason)
    length = environ.get("CONTENT_LENGTH", "")
    limit: int = app.config["BODY_LIMIT"]
    if len(length) > 19 or (length.isdecimal() and int(length) > limit):
        return problem("payload-too-large", f"The body is larger than {limit} bytes.")
    return None


def is_quick(environ: Environ) -> bool:
    """Tell whether a request with a small body is answered in well below a millisecond.

    True only for what needs no disk and does not grow with the queue.
    """
    path: str = environ["PATH_INFO"]
    if path in _ALWAYS_QUICK:
        return True
    if path in _SUBMIT:
        # A key is looked up on the disk; a dry run looks at the whole queue.
        return not environ["QUERY_STRING"] and "HTTP_IDEMPOTENCY_KEY" not in environ
    return environ["REQUEST_METHOD"] in _SAFE and _STATUS.fullmatch(path) is not None


def answer_for(app: Flask, environ: Environ, error: BaseException) -> Response:
    """Return what the application answers when a view raises `error`."""
    if not isinstance(error, Exception):
        raise error
    with app.request_context(environ):
        app.preprocess_request()
        return app.process_response(app.make_response(app.handle_user_exception(error)))


def _admit_request() -> Response | None:
    environ = flask.request.environ
    if ADMITTED in environ:
        return None
    return admit(flask.current_app, environ)
