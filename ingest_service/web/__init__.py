"""HTTP: the only part that knows Flask and marshmallow."""

from contextlib import suppress

import flask
from flask import Flask, Response
from marshmallow import EXCLUDE, RAISE
from werkzeug.exceptions import HTTPException
from werkzeug.routing import UnicodeConverter

from ingest_service.keys.keyring import Keyring
from ingest_service.service import Service
from ingest_service.settings import Settings
from ingest_service.web import (
    admission,
    control,
    dashboard,
    docs,
    history,
    http_counts,
    ingest,
    metrics,
    ops,
    problems,
    status,
)
from ingest_service.web.answer_headers import complete_head, request_id_of
from ingest_service.web.media_type import ADMITTED


class IngestionId(UnicodeConverter):
    """An id in a path; it may be written in upper case (RFC 9562, section 4)."""

    def to_python(self, value: str) -> str:
        """Return it as it is known here."""
        return value.lower()


def init_app(
    app: Flask, settings: Settings, service: Service, keyring: Keyring | None = None
) -> None:
    """Give `app` the routes of this service."""
    app.extensions["ingest_service"] = service
    app.config["BODY_LIMIT"] = settings.max_body
    app.config["MIN_RESPONSE_RATE"] = settings.min_response_rate
    # One more: Werkzeug cuts a chunked body there without a word, so one that long is too long.
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body + 1
    app.config["ITEM_LIMIT"] = settings.item_limit
    app.config["VALIDATION_STATUS"] = settings.validation_status
    app.config["UNKNOWN_KEYS"] = RAISE if settings.unknown_keys == "refuse" else EXCLUDE
    app.url_map.converters["ingestion"] = IngestionId
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    http_counts.init_app(app)
    admission.init_app(app, settings, keyring)
    app.after_request(_finish)
    problems.init_app(app)
    app.register_blueprint(ingest.bp)
    app.register_blueprint(status.bp)
    app.register_blueprint(control.bp)
    app.register_blueprint(history.bp)
    app.register_blueprint(metrics.bp)
    app.register_blueprint(ops.bp)
    docs.init_app(app)
    dashboard.init_app(app, settings, service, keyring)


def _discard_body() -> None:
    """Read what nobody wanted to read: it lies before the connection's next request."""
    with suppress(HTTPException, OSError):
        while flask.request.stream.read(2**20):
            pass


def _finish(response: Response) -> Response:
    environ = flask.request.environ
    if ADMITTED not in environ:
        _discard_body()
    complete_head(response, request_id_of(environ))
    if environ["REQUEST_METHOD"] == "OPTIONS" and response.status_code == 200:
        # Flask calls its empty body HTML.
        response.headers.pop("Content-Type", None)
    return response
