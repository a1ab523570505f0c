"""What every view needs of a request."""

from flask import current_app, request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from ingest_service.service.service import IngestService


def the_service() -> IngestService:
    """Return the service behind this application."""
    service: IngestService = current_app.extensions["ingest_service"]
    return service


def read_body() -> bytes:
    """Return the body of the request, refusing early what would not be read anyway."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType("The body has a Content-Encoding; send it without.")
    if request.headers.get("Content-Type", "").strip() and request.mimetype != "application/json":
        raise UnsupportedMediaType("The body must be sent as application/json.")
    limit = current_app.config["BODY_LIMIT"]
    too_large = RequestEntityTooLarge(f"The body is larger than {limit} bytes.")
    try:
        body = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise too_large from None
    except OSError:
        raise BadRequest("The body could not be read to its end.") from None
    if len(body) > limit:
        raise too_large
    return body
