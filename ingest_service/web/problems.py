"""Errors as RFC 9457 problem details: one shape, whatever went wrong."""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from flask import Flask, Response, current_app, request
from marshmallow import ValidationError
from werkzeug.exceptions import Forbidden, HTTPException, NotFound

from ingest_service import logs
from ingest_service.errors import (
    Conflict,
    IdempotencyMismatch,
    IngestionNotFound,
    NotPermitted,
    QueueFull,
    QuotaFull,
    Stopping,
    StorageUnavailable,
)
from ingest_service.web.answer_headers import request_id_of
from ingest_service.web.request import InvalidBody
from ingest_service.web.responses import JsonResponse, to_json
from ingest_service.web.strict_json import InvalidJson
from ingest_service.web.strict_schema import OMITTED

MEDIA_TYPE = "application/problem+json"

#: How many errors of one request are listed.
LISTED_ERRORS = 20

#: Seconds after which to look whether a full queue is still paused.
WHILE_PAUSED = 60

#: Longest part of a pointer that is repeated to the client that made it up.
_LONGEST_KEY = 256


@dataclass(frozen=True, slots=True)
class Problem:
    """A kind of problem; `/problems/<slug>` explains it."""

    slug: str
    status: int
    title: str
    explanation: str
    #: The errors that are answered like this.
    errors: tuple[type[Exception], ...] = ()

    @property
    def type(self) -> str:
        """The URI reference that names this kind (RFC 9457, section 3.1.1)."""
        return f"/problems/{self.slug}"


PROBLEMS = {
    problem.slug: problem
    for problem in (
        Problem(
            "invalid-json",
            400,
            "The body is not valid JSON",
            "Send UTF-8 encoded JSON (RFC 8259) without duplicate keys, NaN or infinities. "
            "The detail says where reading stopped.",
            (InvalidJson,),
        ),
        Problem(
            "malformed-request",
            400,
            "The request is not valid HTTP",
            "The head or the framing of the body cannot be read (RFC 9112).",
        ),
        Problem(
            "validation-error",
            400,
            "The request does not keep the contract",
            "Each entry of `errors` points (RFC 6901) to a value and says what is expected there.",
            (ValidationError,),
        ),
        Problem(
            "not-found",
            404,
            "There is nothing here",
            "The path is wrong, or no ingestion has this id, or it was removed after its "
            "retention time.",
            (
                IngestionNotFound,
                NotFound,
            ),
        ),
        Problem(
            "unauthorized",
            401,
            "There is no key that is in force",
            "Send `Authorization: Bearer <key>` with a key that the operator has made and that is "
            "neither revoked nor expired; the answer does not tell what is wrong with a key.",
        ),
        Problem(
            "forbidden",
            403,
            "This is not allowed",
            "The key lacks the scope that is named, or may not ask for so much. Without keys "
            "`Host` must name this machine, or be one of `INGEST_ALLOWED_HOSTS`. Pages of other "
            "origins may not change anything, unless `INGEST_CORS_ORIGINS` names theirs.",
            (Forbidden, NotPermitted),
        ),
        Problem(
            "method-not-allowed",
            405,
            "The method is not allowed here",
            "The `Allow` header lists the methods that are.",
        ),
        Problem(
            "conflict",
            409,
            "The request conflicts with the present state",
            "Ask for the state and decide anew.",
            (Conflict,),
        ),
        Problem(
            "request-timeout",
            408,
            "The request took too long to arrive",
            "Send the head within 10 seconds and the body within 60 more.",
        ),
        Problem(
            "payload-too-large",
            413,
            "The body is too large",
            "Send the items in several requests.",
        ),
        Problem(
            "unsupported-media-type",
            415,
            "The body has a media type that is not understood",
            "Send `Content-Type: application/json` without a `Content-Encoding`.",
        ),
        Problem(
            "idempotency-mismatch",
            422,
            "The idempotency key was used for another request",
            "Use a new `Idempotency-Key` for a new request; repeat the same body to get the "
            "first answer again.",
            (IdempotencyMismatch,),
        ),
        Problem(
            "too-many-requests",
            429,
            "The key has as much as it may have for now",
            "Nothing was stored. Repeat the request after the seconds in `Retry-After`; others are "
            "not affected. Without that header it never succeeds: it has more items than the key "
            "may have waiting.",
            (QuotaFull,),
        ),
        Problem(
            "internal-error",
            500,
            "The service made a mistake",
            "It is logged under the request id in the answer's `X-Request-ID` header.",
        ),
        Problem(
            "queue-full",
            503,
            "The queue is full",
            "Nothing was stored. Repeat the request after the seconds in `Retry-After`.",
            (QueueFull,),
        ),
        Problem(
            "storage-unavailable",
            503,
            "The journal cannot be written",
            "Nothing was stored. The service heals by itself when its disk does; try again then.",
            (StorageUnavailable,),
        ),
        Problem(
            "not-ready",
            503,
            "The service does not take work now",
            "The detail gives the reason.",
            (Stopping,),
        ),
    )
}

#: What can be wrong with any request, whatever it asks for: how it arrives, and beside how many.
ANY_PROBLEMS = ("malformed-request", "request-timeout", "payload-too-large", "not-ready")
#: What can be wrong with any body, beside what it says.
BODY_PROBLEMS = ("invalid-json", "unsupported-media-type")
_BY_STATUS = {
    400: "malformed-request",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    409: "conflict",
    413: "payload-too-large",
    415: "unsupported-media-type",
    429: "too-many-requests",
}


def init_app(app: Flask) -> None:
    """Answer every error, expected or not, as a problem."""
    app.register_error_handler(HTTPException, _http_exception)
    app.register_error_handler(InvalidJson, _invalid_json)
    app.register_error_handler(ValidationError, _invalid)
    app.register_error_handler(IngestionNotFound, _ingestion_not_found)
    app.register_error_handler(NotPermitted, _not_permitted)
    app.register_error_handler(QueueFull, _queue_full)
    app.register_error_handler(QuotaFull, _quota_full)
    app.register_error_handler(IdempotencyMismatch, _mismatch)
    app.register_error_handler(Conflict, _conflict)
    app.register_error_handler(StorageUnavailable, _storage_unavailable)
    app.register_error_handler(Stopping, _stopping)
    app.register_error_handler(Exception, _crash)


def slug_of(error: type[Exception]) -> str:
    """Return the kind of problem that `error` is answered as."""
    return next(slug for slug, kind in PROBLEMS.items() if error in kind.errors)


def problem(
    slug: str,
    detail: str,
    status: int | None = None,
    extensions: Mapping[str, Any] = MappingProxyType({}),
) -> Response:
    """Return the answer for a problem of the kind `slug`, `status` instead of its own if given."""
    kind = PROBLEMS[slug]
    body = {
        "type": kind.type,
        "title": kind.title,
        "status": status or kind.status,
        "detail": detail,
        "error": detail,
        **extensions,
    }
    return JsonResponse(to_json(body), status or kind.status, media_type=MEDIA_TYPE)


def _http_exception(error: HTTPException) -> Response:
    """Keep what Werkzeug decided (status, `Allow`); replace its page."""
    response = error.get_response()
    kind = PROBLEMS[_BY_STATUS.get(response.status_code, "malformed-request")]
    if response.status_code >= 500:
        kind = PROBLEMS["internal-error"]
    elif 300 <= response.status_code < 400:
        kind = PROBLEMS["not-found"]
    detail = error.description or kind.explanation
    if detail == NotFound.description:
        detail = "There is nothing at this address; /openapi.json lists what there is."
    answer = problem(kind.slug, detail)
    if "Allow" in response.headers:
        answer.headers["Allow"] = response.headers["Allow"]
    return answer


def _invalid_json(error: InvalidJson) -> Response:
    return problem("invalid-json", str(error))


def _invalid(error: ValidationError) -> Response:
    messages = list(flatten("", error.messages))
    omitted = sum(count for _, count in messages if isinstance(count, int))
    listed = [{"pointer": at, "detail": text} for at, text in messages if isinstance(text, str)]
    omitted += max(0, len(listed) - LISTED_ERRORS)
    first = listed[0]
    where = f"{first['pointer']}: " if first["pointer"] else ""
    extensions: dict[str, Any] = {"errors": listed[:LISTED_ERRORS]}
    if omitted:
        extensions["errors_omitted"] = omitted
    # What is wrong with a query keeps its own status, whatever bodies get.
    status = current_app.config["VALIDATION_STATUS"] if isinstance(error, InvalidBody) else None
    return problem("validation-error", f"{where}{first['detail']}", status, extensions)


def _ingestion_not_found(_: IngestionNotFound) -> Response:
    return problem("not-found", "Ingestion ID not found")


def _not_permitted(error: NotPermitted) -> Response:
    return problem("forbidden", str(error))


def _queue_full(error: QueueFull) -> Response:
    seconds, when = _until_room(error.retry_after)
    answer = problem("queue-full", f"The queue is full; there will be room {when}.")
    answer.headers["Retry-After"] = str(seconds)
    return answer


def _quota_full(error: QuotaFull) -> Response:
    if error.retry_after is None:
        return problem("too-many-requests", f"{error} Send fewer in a request.")
    seconds, when = _until_room(error.retry_after)
    answer = problem("too-many-requests", f"{error} There will be room {when}.")
    answer.headers["Retry-After"] = str(seconds)
    return answer


def _until_room(retry_after: float) -> tuple[int, str]:
    """Return after how many seconds to try again, and when there is room, in words."""
    if math.isinf(retry_after):
        return WHILE_PAUSED, "nobody knows when, because it is paused"
    seconds = max(1, math.ceil(retry_after))
    return seconds, f"in {seconds} s"


def _mismatch(_: IdempotencyMismatch) -> Response:
    return problem("idempotency-mismatch", PROBLEMS["idempotency-mismatch"].title + ".")


def _conflict(error: Conflict) -> Response:
    return problem("conflict", str(error))


def _storage_unavailable(error: StorageUnavailable) -> Response:
    return _try_again(problem("storage-unavailable", str(error)))


def _stopping(error: Stopping) -> Response:
    return _try_again(problem("not-ready", str(error)))


def _try_again(answer: Response) -> Response:
    # Nobody knows when; a supervisor restarts, and a disk is freed, in about this time.
    answer.headers["Retry-After"] = "5"
    return answer


def _crash(_: Exception) -> Response:
    request_id = request_id_of(request.environ)
    logs.event("request_crashed", level=logging.ERROR, exc_info=True, request_id=request_id)
    return problem("internal-error", "Something went wrong here; the operator's log tells more.")


def flatten(at: str, messages: object) -> Iterator[tuple[str, str | int]]:
    """Yield marshmallow's nested messages as (RFC 6901 pointer, text or count of omitted ones)."""
    if isinstance(messages, Mapping):
        for key, below in messages.items():
            if key == OMITTED:
                yield at, below
            else:
                escaped = str(key)[:_LONGEST_KEY].replace("~", "~0").replace("/", "~1")
                yield from flatten(f"{at}/{escaped}", below)
    elif isinstance(messages, list):
        for message in messages:
            yield from flatten(at, message)
    else:
        yield at, str(messages)
