"""The routes of the contract: submit, follow, fetch."""

import re

from flask import Blueprint, Response, current_app, request
from marshmallow import ValidationError
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from ingest_service.model import ItemState
from ingest_service.service import IngestService
from ingest_service.web import answers, render
from ingest_service.web.json_out import answer
from ingest_service.web.openapi import operation
from ingest_service.web.schemas import (
    FindQuery,
    IdsRequest,
    MappingsRequest,
    PageQuery,
    ResultsQuery,
    parse_query,
    parse_submission,
)
from ingest_service.web.strict_json import read_json

bp = Blueprint("ingest", __name__)

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,255}")
_OUTCOMES = {"succeeded": ItemState.SUCCEEDED, "failed": ItemState.FAILED}


@bp.post("/ingest")
@operation(
    "Submit items",
    "Takes ids or mappings, stores them and answers at once; they are sent in batches, in order of "
    "priority, at the pace of the external API. A float without fraction counts as an integer.",
    tag="Ingestions",
    bodies=(IdsRequest, MappingsRequest),
    headers={
        "Idempotency-Key": (
            "The same key with the same body gives the first answer again, for 24 hours.",
            {"type": "string", "pattern": "^[!-~]{1,255}$"},
        )
    },
    answers={200: answers.ACCEPTED},
    problems=(
        "malformed-request",
        "invalid-json",
        "validation-error",
        "request-timeout",
        "payload-too-large",
        "unsupported-media-type",
        "idempotency-mismatch",
        "queue-full",
        "storage-unavailable",
        "not-ready",
    ),
)
def submit() -> Response:
    """Accept an ingestion."""
    payload = read_json(_body())
    items, priority = parse_submission(payload, current_app.config["ITEM_LIMIT"])
    accepted = _service().accept(items, priority, _idempotency_key())
    headers = {"Location": f"/status/{accepted.ingestion_id}"}
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    return answer(render.accepted(accepted.ingestion_id, items.kind, len(items)), headers=headers)


@bp.get("/status/<ingestion_id>")
@operation(
    "Follow an ingestion",
    "The state of an ingestion and of its batches; at most 10,000 batches an answer.",
    tag="Ingestions",
    query=PageQuery,
    answers={200: answers.STATUS},
    problems=("validation-error", "not-found"),
)
def show(ingestion_id: str) -> Response:
    """Tell where an ingestion is."""
    page = parse_query(PageQuery, request.args)
    return answer(render.status(_service().status(ingestion_id, page["offset"], page["limit"])))


@bp.get("/status")
@operation(
    "Follow an ingestion, named in the query string",
    "The same as `GET /status/{ingestion_id}`.",
    tag="Ingestions",
    query=FindQuery,
    answers={200: answers.STATUS},
    problems=("validation-error", "not-found"),
)
def find() -> Response:
    """Tell where the ingestion named in the query string is."""
    return show(parse_query(FindQuery, request.args)["ingestion_id"])


@bp.get("/status/<ingestion_id>/results")
@operation(
    "Fetch the results",
    "What became of the items, in their order; what is settled so far while it runs.",
    tag="Ingestions",
    query=ResultsQuery,
    answers={200: answers.RESULTS},
    problems=("validation-error", "not-found"),
)
def show_results(ingestion_id: str) -> Response:
    """Tell what became of the items."""
    query = parse_query(ResultsQuery, request.args)
    wanted = [_OUTCOMES[query["outcome"]]] if "outcome" in query else list(_OUTCOMES.values())
    found = _service().results(ingestion_id, wanted, query["offset"], query["limit"])
    return answer(render.results(*found))


def _service() -> IngestService:
    service: IngestService = current_app.extensions["ingest_service"]
    return service


def _body() -> bytes:
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


def _idempotency_key() -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _VISIBLE_ASCII.fullmatch(key):
        raise ValidationError("Idempotency-Key: send from 1 to 255 visible ASCII characters.")
    return key
