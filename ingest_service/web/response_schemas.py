"""What is answered about an ingestion: that it was accepted, where it is, what became of it."""

from typing import Any, ClassVar

from marshmallow import Schema, fields, validate

from ingest_service.domain.items import Kind
from ingest_service.domain.model import FAMILIES, OutcomeWord, Status, WaitCode
from ingest_service.web.response_fields import (
    BATCH_ID,
    ID,
    TIME,
    Answer,
    PriorityName,
    count,
    optional_text,
    optional_word,
    text,
    time,
    uuid,
    word,
)

IDS_WORDS = tuple(dict.fromkeys(FAMILIES[Kind.IDS].words.values()))
MAPPINGS_WORDS = tuple(dict.fromkeys(FAMILIES[Kind.MAPPINGS].words.values()))
COUNTS = {"total": 2, "queued": 0, "in_flight": 0, "succeeded": 2, "failed": 0, "cancelled": 0}
ETA = {"next_start_at": TIME, "finish_at": TIME, "latest_finish_at": None}
SUBMITTED_BY = optional_text("name of the key that it was submitted with, null without one")
_PENDING = FAMILIES[Kind.MAPPINGS].words[Status.WAITING]
_SENT = {"timestamp": TIME, "attempts": 1, "status_code": 200}
_MAPPING_COUNTS = {"total_mappings": 2, "processed_mappings": 2, "failed_mappings": 0}
_DONE = {
    "progress": 100,
    "priority": "HIGH",
    "submitted_by": None,
    "created_at": TIME,
    "started_at": TIME,
    "finished_at": TIME,
    "outcome": "succeeded",
    "counts": COUNTS,
    "queue": None,
    "eta": None,
    "why_waiting": None,
}


class AcceptedIds(Answer):
    """An accepted request for ids."""

    ingestion_id = uuid("what to ask for")

    example: ClassVar[Any] = {"ingestion_id": ID}


class AcceptedMappings(Answer):
    """An accepted request for mappings."""

    request_id = uuid("what to ask for")
    status = text("the state it starts in", _PENDING)
    message = text("a confirmation for people")

    example: ClassVar[Any] = {
        "request_id": ID,
        "status": _PENDING,
        "message": "Ingestion request created successfully. 2 mappings queued for processing.",
    }


class ItemCounts(Schema):
    """How many items are where; the others always sum to `total`."""

    total = count("items of the request")
    queued = count("waiting")
    in_flight = count("in a batch that was started")
    succeeded = count("done")
    failed = count("failed for good")
    cancelled = count("cancelled before they were sent")


class Eta(Schema):
    """When it will run, if nothing changes."""

    next_start_at = time("when its next batch starts", allow_none=True)
    finish_at = time("when it is finished", allow_none=True)
    latest_finish_at = time(
        "when at the latest, whatever arrives later; null where that can be never", allow_none=True
    )


class Place(Schema):
    """Its place in the line."""

    position = fields.Integer(required=True, metadata={"description": "from 1"})
    batches_ahead = count("batches that go first")


class WhyWaiting(Schema):
    """The one reason why it is not finished yet."""

    code = word("the reason", WaitCode)
    message = text("in words")
    until = time("until when, null if nobody knows", allow_none=True)


class DryRun(Answer):
    """What would become of a request."""

    dry_run = fields.Boolean(required=True)
    kind = word("what it consists of", Kind)
    priority = PriorityName("class it would wait in")
    items = count("items of the request")
    batches_total = count("batches they make")
    batch_size = count("items of a full batch")
    queue = fields.Nested(Place, required=True, allow_none=True)
    eta = fields.Nested(Eta, required=True, allow_none=True)

    example: ClassVar[Any] = {
        "dry_run": True,
        "kind": "ids",
        "priority": "HIGH",
        "items": 5,
        "batches_total": 2,
        "batch_size": 3,
        "queue": {"position": 1, "batches_ahead": 0},
        "eta": ETA,
    }


class _Progress(Answer):
    progress = fields.Integer(
        required=True,
        validate=validate.Range(0, 100),
        metadata={"description": "percentage of settled items, rounded down"},
    )
    priority = PriorityName("class it waits in")
    submitted_by = SUBMITTED_BY
    created_at = time("when it was accepted")
    started_at = time("when its first batch was started", allow_none=True)
    finished_at = time("when its last item was settled", allow_none=True)
    outcome = optional_word("how it ended, null before that", OutcomeWord)
    counts = fields.Nested(ItemCounts, required=True)
    queue = fields.Nested(Place, required=True, allow_none=True)
    eta = fields.Nested(Eta, required=True, allow_none=True)
    why_waiting = fields.Nested(WhyWaiting, required=True, allow_none=True)


class IdsBatch(Schema):
    """Ids that are sent together."""

    batch_id = uuid("the batch")
    ids = fields.List(fields.Integer(), required=True)
    status = word("its state; what is settled is completed, whatever became of it", IDS_WORDS)
    outcome = optional_word("how it ended, null before that", OutcomeWord)


class IdsStatus(_Progress):
    """Where an ingestion of ids is."""

    ingestion_id = uuid("the ingestion")
    status = word("its state; what is settled is completed, whatever became of it", IDS_WORDS)
    batches = fields.List(fields.Nested(IdsBatch), required=True)
    batches_total = count("batches there are, listed here or not")

    example: ClassVar[Any] = {
        "ingestion_id": ID,
        "status": "completed",
        "batches": [
            {"batch_id": BATCH_ID, "ids": [1, 2], "status": "completed", "outcome": "succeeded"}
        ],
        "batches_total": 1,
        **_DONE,
    }


class MappingsBatch(Schema):
    """Mappings that are sent together."""

    batch_id = uuid("the batch")
    mapping_ids = fields.List(fields.String(), required=True)
    status = word("its state", MAPPINGS_WORDS)
    outcome = optional_word("how it ended, null before that", OutcomeWord)


class MappingsStatus(_Progress):
    """Where an ingestion of mappings is."""

    request_id = uuid("the ingestion")
    status = word("its state; failed if every mapping failed, or it was cancelled", MAPPINGS_WORDS)
    total_mappings = count("mappings of the request")
    processed_mappings = count("mappings that succeeded")
    failed_mappings = count("mappings that failed for good")
    details = optional_text("a sentence for people if something failed or was cancelled")
    batches = fields.List(fields.Nested(MappingsBatch), required=True)
    batches_total = count("batches there are, listed here or not")

    example: ClassVar[Any] = {
        "request_id": ID,
        "status": "completed",
        **_MAPPING_COUNTS,
        "details": None,
        "batches": [
            {
                "batch_id": BATCH_ID,
                "mapping_ids": ["map_001", "map_002"],
                "status": "completed",
                "outcome": "succeeded",
            }
        ],
        "batches_total": 1,
        **_DONE,
    }


class _Result(Schema):
    status = text("how it ended", "success", "failed")
    processed_data = fields.Raw(
        allow_none=True, metadata={"description": "what the upstream answered, on success"}
    )
    error = fields.String(metadata={"description": "why it failed"})
    timestamp = time("when it was settled")
    attempts = count("how often it was sent")
    status_code = fields.Integer(
        required=True, allow_none=True, metadata={"description": "of the upstream's last answer"}
    )


class IdResult(_Result):
    """What became of an id."""

    id = fields.Integer(required=True)


class MappingResult(_Result):
    """What became of a mapping."""

    mapping_id = fields.String(required=True)


class IdsResults(Answer):
    """What became of ids."""

    ingestion_id = uuid("the ingestion")
    status = word("its state", IDS_WORDS)
    total_ids = count("ids of the request")
    processed_ids = count("ids that succeeded")
    failed_ids = count("ids that failed for good")
    complete = fields.Boolean(required=True, metadata={"description": "whether all are settled"})
    submitted_by = SUBMITTED_BY
    results = fields.List(fields.Nested(IdResult), required=True)

    example: ClassVar[Any] = {
        "ingestion_id": ID,
        "status": "completed",
        "total_ids": 2,
        "processed_ids": 1,
        "failed_ids": 1,
        "complete": True,
        "submitted_by": None,
        "results": [
            {"id": 1, "status": "success", "processed_data": {"id": 1}, **_SENT},
            {
                "id": 2,
                "status": "failed",
                "error": "The upstream answered 404.",
                **_SENT,
                "status_code": 404,
            },
        ],
    }
    #: The same as a stream, by media type.
    streams: ClassVar[dict[str, str]] = {
        "application/x-ndjson": '{"id":1,"status":"success","processed_data":{"id":1},'
        f'"timestamp":"{TIME}","attempts":1,"status_code":200}}\n',
        "text/csv": "id,status,processed_data,error,timestamp,attempts,status_code\r\n"
        f'1,success,"{{""id"":1}}",,{TIME},1,200\r\n',
    }


class MappingsResults(Answer):
    """What became of mappings."""

    request_id = uuid("the ingestion")
    status = word("its state", MAPPINGS_WORDS)
    total_mappings = count("mappings of the request")
    processed_mappings = count("mappings that succeeded")
    failed_mappings = count("mappings that failed for good")
    complete = fields.Boolean(required=True, metadata={"description": "whether all are settled"})
    submitted_by = SUBMITTED_BY
    results = fields.List(fields.Nested(MappingResult), required=True)

    example: ClassVar[Any] = {
        "request_id": ID,
        "status": "completed",
        **_MAPPING_COUNTS,
        "complete": True,
        "submitted_by": None,
        "results": [
            {"mapping_id": "map_001", "status": "success", "processed_data": {"n": 1}, **_SENT},
            {"mapping_id": "map_002", "status": "success", "processed_data": None, **_SENT},
        ],
    }
