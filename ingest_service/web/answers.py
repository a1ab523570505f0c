"""The JSON contract of what goes out, as the OpenAPI document tells it."""

from dataclasses import dataclass
from typing import Any

from marshmallow import INCLUDE, Schema, fields, validate

_ID = "8f14e45f-ceea-467f-a8f5-1c2b3d4e5f60"
_BATCH_ID = "8f14e45f-ceea-467f-a8f5-1c2b3d4e5f61"
_TIME = "2026-01-01T12:00:00.000Z"


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: what it means, its possible shapes, an example of each."""

    description: str
    schemas: tuple[type[Schema], ...]
    examples: dict[str, Any]
    headers: tuple[str, ...] = ()


def _count(about: str) -> fields.Integer:
    return fields.Integer(
        required=True, validate=validate.Range(min=0), metadata={"description": about}
    )


def _text(about: str, *allowed: str) -> fields.String:
    checks = [validate.OneOf(allowed)] if allowed else []
    return fields.String(required=True, validate=checks, metadata={"description": about})


def _time(about: str, **kwargs: Any) -> fields.DateTime:
    return fields.DateTime(required=True, metadata={"description": about}, **kwargs)


def _uuid(about: str) -> fields.UUID:
    return fields.UUID(required=True, metadata={"description": about})


class AcceptedIds(Schema):
    """An accepted request for ids."""

    ingestion_id = _uuid("what to ask for")


class AcceptedMappings(Schema):
    """An accepted request for mappings."""

    request_id = _uuid("what to ask for")
    status = _text("the state it starts in", "pending")
    message = _text("a confirmation for people")


class ItemCounts(Schema):
    """How many items are where; the others always sum to `total`."""

    total = _count("items of the request")
    queued = _count("waiting")
    in_flight = _count("in a batch that was started")
    succeeded = _count("done")
    failed = _count("failed for good")
    cancelled = _count("cancelled before they were sent")


class _Progress(Schema):
    progress = fields.Integer(
        required=True,
        validate=validate.Range(0, 100),
        metadata={"description": "percentage of settled items, rounded down"},
    )
    priority = _text("class it waits in", "HIGH", "MEDIUM", "LOW")
    created_at = _time("when it was accepted")
    started_at = _time("when its first batch was started", allow_none=True)
    finished_at = _time("when its last item was settled", allow_none=True)
    outcome = fields.String(
        required=True,
        allow_none=True,
        validate=validate.OneOf(("succeeded", "partially_failed", "failed", "cancelled", None)),
        metadata={"description": "how it ended, null before that"},
    )
    counts = fields.Nested(ItemCounts, required=True)


_IDS_STATES = ("yet_to_start", "triggered", "completed", "failed", "cancelled")
_MAPPINGS_STATES = ("pending", "in_progress", "completed", "failed", "cancelled")


class IdsBatch(Schema):
    """Ids that are sent together."""

    batch_id = _uuid("the batch")
    ids = fields.List(fields.Integer(), required=True)
    status = _text("its state", *_IDS_STATES)


class IdsStatus(_Progress):
    """Where an ingestion of ids is."""

    ingestion_id = _uuid("the ingestion")
    status = _text("its state", *_IDS_STATES)
    batches = fields.List(fields.Nested(IdsBatch), required=True)
    batches_total = _count("batches there are, listed here or not")


class MappingsBatch(Schema):
    """Mappings that are sent together."""

    batch_id = _uuid("the batch")
    mapping_ids = fields.List(fields.String(), required=True)
    status = _text("its state", *_MAPPINGS_STATES)


class MappingsDetails(Schema):
    """The batches of an ingestion of mappings."""

    batches = fields.List(fields.Nested(MappingsBatch), required=True)
    batches_total = _count("batches there are, listed here or not")


class MappingsStatus(_Progress):
    """Where an ingestion of mappings is."""

    request_id = _uuid("the ingestion")
    status = _text("its state", *_MAPPINGS_STATES)
    total_mappings = _count("mappings of the request")
    processed_mappings = _count("mappings that succeeded")
    failed_mappings = _count("mappings that failed for good")
    details = fields.Nested(MappingsDetails, required=True)


class _Result(Schema):
    status = _text("how it ended", "success", "failed")
    processed_data = fields.Raw(
        allow_none=True, metadata={"description": "what the upstream answered, on success"}
    )
    error = fields.String(metadata={"description": "why it failed"})
    timestamp = _time("when it was settled")


class IdResult(_Result):
    """What became of an id."""

    id = fields.Integer(required=True)


class MappingResult(_Result):
    """What became of a mapping."""

    mapping_id = fields.String(required=True)


class IdsResults(Schema):
    """What became of ids."""

    ingestion_id = _uuid("the ingestion")
    status = _text("its state", *_IDS_STATES)
    total_ids = _count("ids of the request")
    processed_ids = _count("ids that succeeded")
    failed_ids = _count("ids that failed for good")
    complete = fields.Boolean(required=True, metadata={"description": "whether all are settled"})
    results = fields.List(fields.Nested(IdResult), required=True)


class MappingsResults(Schema):
    """What became of mappings."""

    request_id = _uuid("the ingestion")
    status = _text("its state", *_MAPPINGS_STATES)
    total_mappings = _count("mappings of the request")
    processed_mappings = _count("mappings that succeeded")
    failed_mappings = _count("mappings that failed for good")
    complete = fields.Boolean(required=True, metadata={"description": "whether all are settled"})
    results = fields.List(fields.Nested(MappingResult), required=True)


class Live(Schema):
    """A greeting."""

    message = _text("always the same", "Ingestion API is live!")


class Liveness(Schema):
    """The process answers."""

    status = _text("always the same", "live")


class Readiness(Schema):
    """Work is taken."""

    status = _text("always the same", "ready")


class HealthReport(Schema):
    """How the service is."""

    status = _text("always the same", "healthy")
    timestamp = _time("now")
    active_requests = _count("ingestions that are not finished")
    worker = _text("the thread that sends batches", "running", "stopped")
    queued_items = _count("items that wait")
    version = _text("of this service")


class ErrorEntry(Schema):
    """One thing that is wrong with a request."""

    pointer = _text("where (RFC 6901)")
    detail = _text("what is expected there")


class ProblemDetails(Schema):
    """An error (RFC 9457)."""

    type = _text("kind of problem; its page explains it")
    title = _text("the kind in words")
    status = fields.Integer(required=True)
    detail = _text("what is wrong")
    error = _text("the same as `detail`")
    errors = fields.List(fields.Nested(ErrorEntry), validate=validate.Length(max=20))
    errors_omitted = fields.Integer(metadata={"description": "how many more errors there are"})


class ProblemPage(Schema):
    """What a kind of problem means."""

    type = _text("its name")
    title = _text("the kind in words")
    status = fields.Integer(required=True)
    explanation = _text("what it means and what to do")


class Document(Schema):
    """An OpenAPI 3.1 document."""

    class Meta:
        unknown = INCLUDE

    openapi = _text("version of the format")
    info = fields.Dict(required=True, metadata={"description": "name and version"})
    paths = fields.Dict(required=True, metadata={"description": "the routes"})


_COUNTS = {"total": 2, "queued": 0, "in_flight": 0, "succeeded": 2, "failed": 0, "cancelled": 0}
_DONE = {
    "progress": 100,
    "priority": "HIGH",
    "created_at": _TIME,
    "started_at": _TIME,
    "finished_at": _TIME,
    "outcome": "succeeded",
    "counts": _COUNTS,
}
_MAPPING_COUNTS = {"total_mappings": 2, "processed_mappings": 2, "failed_mappings": 0}

ACCEPTED = Answer(
    "Accepted.",
    (AcceptedIds, AcceptedMappings),
    {
        "ids": {"ingestion_id": _ID},
        "mappings": {
            "request_id": _ID,
            "status": "pending",
            "message": "Ingestion request created successfully. 2 mappings queued for processing.",
        },
    },
    headers=("Location", "Idempotency-Replayed"),
)
STATUS = Answer(
    "Where it is.",
    (IdsStatus, MappingsStatus),
    {
        "ids": {
            "ingestion_id": _ID,
            "status": "completed",
            "batches": [{"batch_id": _BATCH_ID, "ids": [1, 2], "status": "completed"}],
            "batches_total": 1,
        }
        | _DONE,
        "mappings": {
            "request_id": _ID,
            "status": "completed",
            "details": {
                "batches": [
                    {"batch_id": _BATCH_ID, "mapping_ids": ["a", "b"], "status": "completed"}
                ],
                "batches_total": 1,
            },
        }
        | _MAPPING_COUNTS
        | _DONE,
    },
)
RESULTS = Answer(
    "What became of the items.",
    (IdsResults, MappingsResults),
    {
        "ids": {
            "ingestion_id": _ID,
            "status": "completed",
            "total_ids": 2,
            "processed_ids": 1,
            "failed_ids": 1,
            "complete": True,
            "results": [
                {
                    "id": 1,
                    "status": "success",
                    "processed_data": {"id": 1, "data": "processed"},
                    "timestamp": _TIME,
                },
                {"id": 2, "status": "failed", "error": "no such id", "timestamp": _TIME},
            ],
        },
        "mappings": {
            "request_id": _ID,
            "status": "completed",
            "complete": True,
            "results": [
                {
                    "mapping_id": "map_001",
                    "status": "success",
                    "processed_data": {"source": "s", "target": "t"},
                    "timestamp": _TIME,
                },
                {
                    "mapping_id": "map_002",
                    "status": "success",
                    "processed_data": None,
                    "timestamp": _TIME,
                },
            ],
        }
        | _MAPPING_COUNTS,
    },
)
LIVE = Answer("There.", (Live,), {"live": {"message": "Ingestion API is live!"}})
LIVENESS = Answer("It answers.", (Liveness,), {"live": {"status": "live"}})
READINESS = Answer("Work is taken.", (Readiness,), {"ready": {"status": "ready"}})
HEALTH = Answer(
    "Well.",
    (HealthReport,),
    {
        "healthy": {
            "status": "healthy",
            "timestamp": _TIME,
            "active_requests": 2,
            "worker": "running",
            "queued_items": 17,
            "version": "0.1.0",
        }
    },
)
DOCUMENT = Answer(
    "The document.",
    (Document,),
    {
        "document": {
            "openapi": "3.1.0",
            "info": {"title": "ingest_service", "version": "0.1.0"},
            "paths": {},
        }
    },
)
PROBLEM_PAGE = Answer(
    "The explanation.",
    (ProblemPage,),
    {
        "queue-full": {
            "type": "/problems/queue-full",
            "title": "The queue is full",
            "status": 503,
            "explanation": "Nothing was stored. Repeat the request after `Retry-After`.",
        }
    },
)
