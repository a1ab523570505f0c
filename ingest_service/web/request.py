"""What views need of a request: the service, the body, the query."""

from typing import Any

from flask import current_app, request
from marshmallow import ValidationError
from werkzeug.exceptions import BadRequest, Forbidden, RequestEntityTooLarge, UnsupportedMediaType

from ingest_service.domain.caller import Caller
from ingest_service.domain.items import Items
from ingest_service.domain.model import Priority
from ingest_service.keys.key import Key
from ingest_service.service import Service
from ingest_service.web import media_type, request_schemas
from ingest_service.web.answer_headers import request_id_of
from ingest_service.web.media_type import ADMITTED
from ingest_service.web.query_schemas import QuerySchema, load_query
from ingest_service.web.scopes import KEY
from ingest_service.web.strict_json import read_json
from ingest_service.web.strict_schema import StrictSchema
from ingest_service.web.weight import is_too_heavy


class InvalidBody(ValidationError):
    """A body is JSON and does not keep the contract."""


def the_service() -> Service:
    """Return the service behind this application."""
    service: Service = current_app.extensions["ingest_service"]
    return service


def the_caller() -> Caller:
    """Return who asks."""
    environ = request.environ
    key, request_id = _key_of(environ), request_id_of(environ)
    if key is None:
        return Caller(request_id=request_id)
    return Caller(
        key=key.name,
        request_id=request_id,
        own_only=key.own_only,
        max_queued_items=key.max_queued_items,
    )


def the_key() -> Key | None:
    """Return the key of who asks, None where none is needed."""
    return _key_of(request.environ)


def _key_of(environ: dict[str, Any]) -> Key | None:
    key: Key | None = environ.get(KEY)
    return key


def check_priority(priority: Priority) -> None:
    """Raise `Forbidden` if the key may not ask for that."""
    key = the_key()
    if key is not None and priority < key.max_priority:
        raise Forbidden(f"This key may ask for {key.max_priority.name} at most.")


def parse_query(schema: type[QuerySchema]) -> dict[str, Any]:
    """Return the values of the query string of the request; raise `ValidationError`."""
    return load_query(schema, request.args if request.environ.get("QUERY_STRING") else {})


def read_body() -> bytes:
    """Return the body of the request, refusing early what would not be read anyway."""
    environ = request.environ
    reason = media_type.reason_not_json(environ)
    if reason is not None:
        raise UnsupportedMediaType(reason)
    if ADMITTED in environ:
        # The server has read it, and found that it is not too large.
        body: bytes = environ["wsgi.input"].read()
        return body
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


def parse_body(schema: type[StrictSchema], *, optional: bool = False) -> dict[str, Any]:
    """Return the values of the body; one that is `optional` may be empty.

    What an empty one lacks is not the body's fault.
    """
    body = read_body()
    payload = {} if optional and not body else read_values(body, 1)
    try:
        return request_schemas.load(schema, payload, current_app.config["UNKNOWN_KEYS"])
    except ValidationError as error:
        raise (InvalidBody if body else ValidationError)(error.messages) from None


def parse_submission() -> tuple[Items, Priority]:
    """Return what the body asks to be done."""
    config = current_app.config
    payload = read_values(read_body(), config["ITEM_LIMIT"])
    try:
        return request_schemas.load_submission(
            payload, config["UNKNOWN_KEYS"], config["ITEM_LIMIT"]
        )
    except ValidationError as error:
        raise InvalidBody(error.messages) from None


def read_values(body: bytes, items: int) -> Any:
    """Return what `body` says, if so many items can need it; raise what is answered otherwise."""
    if is_too_heavy(body, items):
        raise RequestEntityTooLarge(f"The body has more values than {items} items can need.")
    return read_json(body)
