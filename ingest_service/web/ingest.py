"""Submitting: `POST /ingest`."""

import re

from flask import Blueprint, Response, request
from marshmallow import ValidationError

from ingest_service.errors import (
    IdempotencyMismatch,
    QueueFull,
    QuotaFull,
    Stopping,
    StorageUnavailable,
)
from ingest_service.keys.scope import Scope
from ingest_service.web import render
from ingest_service.web.http_counts import the_counts
from ingest_service.web.openapi import operation
from ingest_service.web.query_schemas import SubmitQuery
from ingest_service.web.request import (
    check_priority,
    parse_query,
    parse_submission,
    the_caller,
    the_service,
)
from ingest_service.web.request_schemas import IdsRequest, MappingsRequest
from ingest_service.web.response_schemas import AcceptedIds, AcceptedMappings, DryRun
from ingest_service.web.responses import answer

bp = Blueprint("ingest", __name__)

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,255}")


@bp.post("/ingest")
@operation(
    tag="Ingestions",
    scope=Scope.SUBMIT,
    bodies=(IdsRequest, MappingsRequest),
    headers={
        "Idempotency-Key": (
            "The same key with the same body gives the first answer again, for 24 hours.",
            {"type": "string", "pattern": "^[!-~]{1,255}$"},
        )
    },
    query=SubmitQuery,
    returns=(AcceptedIds, AcceptedMappings, DryRun),
    sends=("Location", "Idempotency-Replayed"),
    raises=(IdempotencyMismatch, QueueFull, QuotaFull, StorageUnavailable, Stopping),
)
def submit() -> Response:
    """Submit items.

    Takes ids or mappings, stores them and answers at once; they are sent in batches, in order
    of priority, at the pace of the external API. A float without fraction counts as an integer;
    null counts as absent.
    """
    items, priority = parse_submission()
    check_priority(priority)
    key, caller, submissions = _idempotency_key(), the_caller(), the_service().submissions
    if parse_query(SubmitQuery)["dry_run"]:
        return answer(render.plan(submissions.plan(items, priority, caller), items, priority))
    accepted = submissions.accept(items, priority, key, caller)
    headers = {"Location": f"/status/{accepted.ingestion_id}"}
    if accepted.replayed:
        the_counts().count_replay()
        headers["Idempotency-Replayed"] = "true"
    return answer(render.accepted(accepted.ingestion_id, items.kind, len(items)), headers=headers)


def _idempotency_key() -> str | None:
    key: str | None = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not _VISIBLE_ASCII.fullmatch(key):
        raise ValidationError("Idempotency-Key: send from 1 to 255 visible ASCII characters.")
    return key
