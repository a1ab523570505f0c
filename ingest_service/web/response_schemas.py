"""The JSON that goes out, shape by shape, as the OpenAPI document tells it."""

from typing import Any

from marshmallow import INCLUDE, Schema, fields, validate

#: Why an ingestion can be waiting.
WAITING_CODES = (
    "rate_limit",
    "in_line",
    "higher_priority",
    "settling",
    "paused",
    "upstream_hold",
    "retry_backoff",
    "max_concurrent",
)


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


class Eta(Schema):
    """When it will run, if nothing changes."""

    next_start_at = _time("when its next batch starts", allow_none=True)
    finish_at = _time("when it is finished", allow_none=True)
    latest_finish_at = _time(
        "when at the latest, whatever arrives later; null where that can be never", allow_none=True
    )


class Place(Schema):
    """Its place in the line."""

    position = fields.Integer(required=True, metadata={"description": "from 1"})
    batches_ahead = _count("batches that go first")


class WhyWaiting(Schema):
    """The one reason why it is not finished yet."""

    code = _text("the reason", *WAITING_CODES)
    message = _text("in words")
    until = _time("until when, null if nobody knows", allow_none=True)


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
    queue = fields.Nested(Place, required=True, allow_none=True)
    eta = fields.Nested(Eta, required=True, allow_none=True)
    why_waiting = fields.Nested(WhyWaiting, required=True, allow_none=True)


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
    attempts = _count("how often it was sent")
    status_code = fields.Integer(
        required=True, allow_none=True, metadata={"description": "of the upstream's last answer"}
    )


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


class DryRun(Schema):
    """What would become of a request."""

    dry_run = fields.Boolean(required=True)
    kind = _text("what it consists of", "ids", "mappings")
    priority = _text("class it would wait in", "HIGH", "MEDIUM", "LOW")
    items = _count("items of the request")
    batches_total = _count("batches they make")
    batch_size = _count("items of a full batch")
    queue = fields.Nested(Place, required=True, allow_none=True)
    eta = fields.Nested(Eta, required=True, allow_none=True)


class _IdsHead(Schema):
    ingestion_id = _uuid("the ingestion")
    status = _text("its state", *_IDS_STATES)


class _MappingsHead(Schema):
    request_id = _uuid("the ingestion")
    status = _text("its state", *_MAPPINGS_STATES)


class _Cancelled(Schema):
    cancelled_items = _count("items that will never be sent")
    in_flight_items = _count("items under way, which end")


class CancelledIds(_IdsHead, _Cancelled):
    """A cancelled ingestion of ids."""


class CancelledMappings(_MappingsHead, _Cancelled):
    """A cancelled ingestion of mappings."""


class _Retried(Schema):
    retried_items = _count("items that are sent once more")
    counts = fields.Nested(ItemCounts, required=True)


class RetriedIds(_IdsHead, _Retried):
    """An ingestion of ids whose failed items are sent once more."""


class RetriedMappings(_MappingsHead, _Retried):
    """An ingestion of mappings whose failed items are sent once more."""


class Estimate(Schema):
    """A class, and what can be expected in it."""

    priority = _text("the class", "HIGH", "MEDIUM", "LOW")
    eta = fields.Nested(Eta, required=True, allow_none=True)


class _Moved(Schema):
    priority = _text("its class now", "HIGH", "MEDIUM", "LOW")
    old = fields.Nested(Estimate, required=True)
    new = fields.Nested(Estimate, required=True)
    delayed_ingestions = _count("others that end later because of it")
    longest_delay_seconds = fields.Float(required=True, metadata={"description": "by how much"})


class MovedIds(_IdsHead, _Moved):
    """An ingestion of ids in another class."""


class MovedMappings(_MappingsHead, _Moved):
    """An ingestion of mappings in another class."""


class IngestionSummary(Schema):
    """An ingestion in a list."""

    ingestion_id = _uuid("the ingestion")
    kind = _text("what it consists of", "ids", "mappings")
    status = _text("its state", *dict.fromkeys(_IDS_STATES + _MAPPINGS_STATES))
    priority = _text("its class", "HIGH", "MEDIUM", "LOW")
    created_at = _time("when it was accepted")
    started_at = _time("when its first batch was started", allow_none=True)
    finished_at = _time("when its last item was settled", allow_none=True)
    outcome = fields.String(required=True, allow_none=True)
    counts = fields.Nested(ItemCounts, required=True)
    progress = _count("percentage of settled items")


class IngestionList(Schema):
    """A page of a list."""

    ingestions = fields.List(fields.Nested(IngestionSummary), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class ClassDepth(Schema):
    """What waits in a class."""

    batches = _count("batches that could be started")
    items = _count("items that wait, for the first time or again")
    ingestions = _count("ingestions they belong to")
    oldest_at = _time("when the oldest of these was accepted", allow_none=True)


class QueueDepth(Schema):
    """What waits, by class."""

    HIGH = fields.Nested(ClassDepth, required=True)
    MEDIUM = fields.Nested(ClassDepth, required=True)
    LOW = fields.Nested(ClassDepth, required=True)


class BatchUnderWay(Schema):
    """A batch that was started and has not ended."""

    ingestion_id = _uuid("its ingestion")
    batch_id = _uuid("the batch")
    items = _count("items of it")
    attempt = _count("which attempt it is")


class ComingSlot(Schema):
    """A slot to come, if nothing changes."""

    at = _time("when it opens")
    ingestion_id = _uuid("what it serves")
    priority = _text("the class of that", "HIGH", "MEDIUM", "LOW")


class Queue(Schema):
    """The queue as a whole."""

    state = _text("what it does", "running", "paused", "held")
    reason = fields.String(required=True, allow_none=True)
    until = _time("until when, null if nobody knows", allow_none=True)
    interval_seconds = fields.Float(required=True)
    policy = _text("who is served first", "strict", "aged", "weighted")
    depth = fields.Nested(QueueDepth, required=True)
    in_flight = fields.List(fields.Nested(BatchUnderWay), required=True)
    next_slot_at = _time("when the next batch is started", allow_none=True)
    next = fields.List(fields.Nested(ComingSlot), required=True)


class EarlyStart(Schema):
    """A batch that was started too early."""

    at = _time("when it was started")
    ingestion_id = _uuid("its ingestion")
    gap_seconds = fields.Float(required=True)
    required_seconds = fields.Float(required=True)


class RateProofReport(Schema):
    """What the starts of a period show."""

    from_ = fields.DateTime(required=True, allow_none=True, data_key="from")
    to = _time("the end of the period", allow_none=True)
    starts = _count("batches started")
    smallest_gap_seconds = fields.Float(required=True, allow_none=True)
    violations = _count("starts that came too early")
    examples = fields.List(fields.Nested(EarlyStart), required=True)


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
    queue = _text("what the queue does", "running", "paused", "held")
    reason = fields.String(required=True, allow_none=True)
    until = _time("until when it is held", allow_none=True)
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
