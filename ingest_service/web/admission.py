"""What a request's head alone decides, in memory: who is let in, and what may take long.

A server calls these before it reads the body; where there is none, `init_app` sees to it.
"""

import re
from typing import Any

import flask
from flask import Flask, Response

from ingest_service.web.problems import problem

Environ = dict[str, Any]

#: Set in the environment of a request whose head was let in already.
ADMITTED = "ingest.admitted"

_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_ALWAYS_QUICK = frozenset(("/", "/health", "/health/", "/health/live", "/health/live/"))
_STATUS = re.compile(r"/status/[^/]*/?")


def init_app(app: Flask) -> None:
    """Let in, or not, before any view."""
    app.before_request(_admit_request)


def admit(app: Flask, environ: Environ) -> Response | None:
    """Return the answer to a request that is refused whatever its body is; None to let it in."""
    host = environ.get("HTTP_HOST")
    if host is None and environ.get("SERVER_PROTOCOL") == "HTTP/1.1":
        return problem("malformed-request", "The request has no Host header.")
    method = environ["REQUEST_METHOD"]
    if method not in _SAFE and _is_foreign(environ, host):
        return problem("forbidden", "A page of another site may not change anything here.")
    if method == "POST" and environ["PATH_INFO"] in ("/ingest", "/ingest/"):
        refusal = _refuse_media_type(environ)
        if refusal is not None:
            return refusal
    length = environ.get("CONTENT_LENGTH", "")
    limit: int = app.config["BODY_LIMIT"]
    if len(length) > 19 or (length.isdigit() and int(length) > limit):
        return problem("payload-too-large", f"The body is larger than {limit} bytes.")
    return None


def is_quick(environ: Environ) -> bool:
    """Tell whether a request with a small body is answered in well below a millisecond.

    True only for what needs no disk and does not grow with the queue.
    """
    path: str = environ["PATH_INFO"]
    if path in _ALWAYS_QUICK:
        return True
    if path in ("/ingest", "/ingest/"):
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


def _is_foreign(environ: Environ, host: str | None) -> bool:
    if environ.get("HTTP_SEC_FETCH_SITE") == "cross-site":
        return True
    origin = environ.get("HTTP_ORIGIN")
    return origin is not None and origin.partition("://")[2] != host


def _refuse_media_type(environ: Environ) -> Response | None:
    coding = environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower()
    if coding != "identity":
        return problem(
            "unsupported-media-type", "The body has a Content-Encoding; send it without."
        )
    media_type = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if media_type not in ("", "application/json"):
        return problem("unsupported-media-type", "The body must be sent as application/json.")
    return None
