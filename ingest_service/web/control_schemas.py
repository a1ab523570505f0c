"""What is answered about the queue as a whole, and to those who change something."""

from typing import Any, ClassVar

from marshmallow import Schema, fields

from ingest_service.domain.items import Kind
from ingest_service.domain.model import OutcomeWord, QueueState
from ingest_service.domain.policy import Policy
from ingest_service.web.response_fields import (
    BATCH_ID,
    ID,
    TIME,
    Answer,
    PriorityName,
    count,
    number,
    optional_text,
    optional_word,
    time,
    uuid,
    word,
)
from ingest_service.web.response_schemas import (
    COUNTS,
    ETA,
    IDS_WORDS,
    MAPPINGS_WORDS,
    SUBMITTED_BY,
    Eta,
    ItemCounts,
)

_IDS_HEAD = {"ingestion_id": ID, "status": "triggered"}
_MAPPINGS_HEAD = {"request_id": ID, "status": "in_progress"}
_CANCELLED = {"cancelled_items": 4, "in_flight_items": 3}
_RETRIED = {"retried_items": 1, "counts": {**COUNTS, "queued": 1, "succeeded": 1}}
_DELETED = {"deleted_items": 7}
#: What keys that see only their own are told.
_HIDDEN = ", null if it does not exist for the key"
_MOVED = {
    "priority": "HIGH",
    "old": {"priority": "LOW", "eta": ETA},
    "new": {"priority": "HIGH", "eta": ETA},
    "delayed_ingestions": 2,
    "longest_delay_seconds": 10.0,
}
_DEPTH = {"batches": 1, "items": 2, "ingestions": 1, "oldest_at": TIME}
_TAKEN = {
    "at": TIME,
    "ended_at": TIME,
    "ingestion_id": ID,
    "batch_id": BATCH_ID,
    "priority": "HIGH",
    "items": 3,
    "succeeded": 2,
    "failed": 1,
    "retried": 0,
}
_NO_DEPTH = {"batches": 0, "items": 0, "ingestions": 0, "oldest_at": None}


class _IdsHead(Answer):
    ingestion_id = uuid("the ingestion")
    status = word("its state", IDS_WORDS)


class _MappingsHead(Answer):
    request_id = uuid("the ingestion")
    status = word("its state", MAPPINGS_WORDS)


class _Cancelled(Schema):
    cancelled_items = count("items that will never be sent")
    in_flight_items = count("items under way, which end")


class CancelledIds(_Cancelled, _IdsHead):
    """A cancelled ingestion of ids."""

    example: ClassVar[Any] = {**_IDS_HEAD, **_CANCELLED}


class CancelledMappings(_Cancelled, _MappingsHead):
    """A cancelled ingestion of mappings."""

    example: ClassVar[Any] = {**_MAPPINGS_HEAD, **_CANCELLED}


class _Retried(Schema):
    retried_items = count("items that are sent once more")
    counts = fields.Nested(ItemCounts, required=True)


class RetriedIds(_Retried, _IdsHead):
    """An ingestion of ids whose failed items are sent once more."""

    example: ClassVar[Any] = {**_IDS_HEAD, **_RETRIED}


class RetriedMappings(_Retried, _MappingsHead):
    """An ingestion of mappings whose failed items are sent once more."""

    example: ClassVar[Any] = {**_MAPPINGS_HEAD, **_RETRIED}


class _Deleted(Schema):
    deleted_items = count("items that are gone, with their results")


class DeletedIds(_Deleted, _IdsHead):
    """An ingestion of ids that is gone."""

    example: ClassVar[Any] = {**_IDS_HEAD, "status": "completed", **_DELETED}


class DeletedMappings(_Deleted, _MappingsHead):
    """An ingestion of mappings that is gone."""

    example: ClassVar[Any] = {**_MAPPINGS_HEAD, "status": "completed", **_DELETED}


class Estimate(Schema):
    """A class, and what can be expected in it."""

    priority = PriorityName("the class")
    eta = fields.Nested(Eta, required=True, allow_none=True)


class _Moved(Schema):
    priority = PriorityName("its class now")
    old = fields.Nested(Estimate, required=True)
    new = fields.Nested(Estimate, required=True)
    delayed_ingestions = count("others that end later because of it")
    longest_delay_seconds = number("by how much")


class MovedIds(_Moved, _IdsHead):
    """An ingestion of ids in another class."""

    example: ClassVar[Any] = {**_IDS_HEAD, **_MOVED}


class MovedMappings(_Moved, _MappingsHead):
    """An ingestion of mappings in another class."""

    example: ClassVar[Any] = {**_MAPPINGS_HEAD, **_MOVED}


class IngestionSummary(Schema):
    """An ingestion in a list."""

    ingestion_id = uuid("the ingestion")
    kind = word("what it consists of", Kind)
    status = word("its state, in the words of its clients", IDS_WORDS + MAPPINGS_WORDS)
    priority = PriorityName("its class")
    submitted_by = SUBMITTED_BY
    created_at = time("when it was accepted")
    started_at = time("when its first batch was started", allow_none=True)
    finished_at = time("when its last item was settled", allow_none=True)
    outcome = optional_word("how it ended, null before that", OutcomeWord)
    counts = fields.Nested(ItemCounts, required=True)
    progress = count("percentage of settled items")


class IngestionList(Answer):
    """A page of the list of ingestions."""

    ingestions = fields.List(fields.Nested(IngestionSummary), required=True)
    next_cursor = optional_text("where the next page begins, null on the last one")

    example: ClassVar[Any] = {
        "ingestions": [
            {
                "ingestion_id": ID,
                "kind": "ids",
                "status": "completed",
                "priority": "HIGH",
                "submitted_by": None,
                "created_at": TIME,
                "started_at": TIME,
                "finished_at": TIME,
                "outcome": "succeeded",
                "counts": COUNTS,
                "progress": 100,
            }
        ],
        "next_cursor": None,
    }


class ClassDepth(Schema):
    """What waits in a class."""

    batches = count("batches that could be started")
    items = count("items that wait, for the first time or again")
    ingestions = count("ingestions they belong to")
    oldest_at = time("when the oldest of these was accepted", allow_none=True)


class QueueDepth(Schema):
    """What waits, by class."""

    HIGH = fields.Nested(ClassDepth, required=True)
    MEDIUM = fields.Nested(ClassDepth, required=True)
    LOW = fields.Nested(ClassDepth, required=True)


class BatchUnderWay(Schema):
    """A batch that was started and has not ended."""

    ingestion_id = uuid(f"its ingestion{_HIDDEN}", allow_none=True)
    batch_id = uuid(f"the batch{_HIDDEN}", allow_none=True)
    items = count("items of it")
    attempt = count("which attempt it is")


class TakenSlot(Schema):
    """A slot that was taken, and what became of the batch it served."""

    at = time("when the batch was started")
    ended_at = time("when it ended, null while it is under way", allow_none=True)
    ingestion_id = uuid(f"its ingestion{_HIDDEN}", allow_none=True)
    batch_id = uuid(f"the batch{_HIDDEN}", allow_none=True)
    priority = PriorityName("the class of that, at that time")
    items = count("items that were sent")
    succeeded = count("of these, done")
    failed = count("of these, failed for good")
    retried = count("of these, sent again later")


class ComingSlot(Schema):
    """A slot to come, if nothing changes."""

    at = time("when it opens")
    ingestion_id = uuid(f"what it serves{_HIDDEN}", allow_none=True)
    priority = PriorityName("the class of that")


class Queue(Answer):
    """The queue as a whole."""

    state = word("what it does", QueueState)
    reason = optional_text("why, if somebody said so")
    until = time("until when, null if nobody knows", allow_none=True)
    interval_seconds = number("from one batch start to the next")
    policy = word("who is served first", Policy)
    depth = fields.Nested(QueueDepth, required=True)
    in_flight = fields.List(fields.Nested(BatchUnderWay), required=True)
    taken = fields.List(
        fields.Nested(TakenSlot),
        required=True,
        metadata={"description": "the last 20 slots since the service was started, oldest first"},
    )
    next_slot_at = time("when the next batch is started", allow_none=True)
    empty_at = time("when everything has ended, null if nobody knows", allow_none=True)
    next = fields.List(fields.Nested(ComingSlot), required=True)

    example: ClassVar[Any] = {
        "state": "running",
        "reason": None,
        "until": None,
        "interval_seconds": 5.0,
        "policy": "strict",
        "depth": {"HIGH": _DEPTH, "MEDIUM": _NO_DEPTH, "LOW": _NO_DEPTH},
        "in_flight": [],
        "taken": [_TAKEN],
        "next_slot_at": TIME,
        "empty_at": TIME,
        "next": [{"at": TIME, "ingestion_id": ID, "priority": "HIGH"}],
    }


class EarlyStart(Schema):
    """A batch that was started too early."""

    at = time("when it was started")
    ingestion_id = uuid("its ingestion")
    gap_seconds = number("since the start before", attribute="gap")
    required_seconds = number("that had to be between the two", attribute="required")


class RateProofReport(Answer):
    """What the starts of a period show."""

    from_ = time("the beginning of the period", allow_none=True, data_key="from")
    to = time("the end of the period", allow_none=True)
    starts = count("batches started")
    smallest_gap_seconds = number("between two starts", allow_none=True)
    violations = count("starts that came too early")
    examples = fields.List(fields.Nested(EarlyStart), required=True)

    example: ClassVar[Any] = {
        "from": TIME,
        "to": TIME,
        "starts": 17_280,
        "smallest_gap_seconds": 5.0,
        "violations": 0,
        "examples": [],
    }
