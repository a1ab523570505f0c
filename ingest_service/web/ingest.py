"""Submitting: `POST /ingest`."""

import re

from flask import Blueprint, Response, current_app, request
from marshmallow import ValidationError

from ingest_service.web import answers, render
from ingest_service.web.openapi import operation
from ingest_service.web.request import read_body, the_service
from ingest_service.web.request_schemas import (
    IdsRequest,
    MappingsRequest,
    SubmitQuery,
    parse_query,
    parse_submission,
)
from ingest_service.web.responses import answer
from ingest_service.web.strict_json import read_json

bp = Blueprint("ingest", __name__)

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,255}")


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
    query=SubmitQuery,
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
    payload = read_json(read_body())
    items, priority = parse_submission(payload, current_app.config["ITEM_LIMIT"])
    key = _idempotency_key()
    if parse_query(SubmitQuery, request.args)["dry_run"]:
        return answer(render.plan(the_service().plan(items, priority), items, priority))
    accepted = the_service().accept(items, priority, key)
    headers = {"Location": f"/status/{accepted.ingestion_id}"}
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    return answer(render.accepted(accepted.ingestion_id, items.kind, len(items)), headers=headers)


def _idempotency_key() -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _VISIBLE_ASCII.fullmatch(key):
        raise ValidationError("Idempotency-Key: send from 1 to 255 visible ASCII characters.")
    return key
