"""What is answered to whoever looks back."""

from typing import Any, ClassVar

from marshmallow import Schema, fields

from ingest_service.domain.model import Priority
from ingest_service.domain.rollup import BATCH_OUTCOMES, ITEM_OUTCOMES
from ingest_service.engines.history import PACE_MARKS
from ingest_service.web.response_fields import (
    TIME,
    Answer,
    count,
    number,
    optional_text,
    time,
    word,
)

_NAMES = [priority.name for priority in Priority]
_BOTH = {"batches": 12, "items": 36}
_WAITED = {"p50": 20.0, "p95": 60.0, "max": 120.0}
_SETTLED = {
    "batches": dict.fromkeys(BATCH_OUTCOMES, 0) | {"succeeded": 11, "retried": 1},
    "items": dict.fromkeys(ITEM_OUTCOMES, 0) | {"succeeded": 35},
}


class BatchesAndItems(Schema):
    """How much it was."""

    batches = count("batches")
    items = count("items of them")


class BatchOutcomes(Schema):
    """Starts of batches by how they ended."""

    succeeded = count("all of it succeeded")
    partially_failed = count("some items failed for good")
    failed = count("all items failed for good")
    cancelled = count("given up, most of them before they were started")
    retried = count("some items are sent again")


class ItemOutcomes(Schema):
    """Items by how they ended."""

    succeeded = count("items that succeeded")
    failed = count("items that failed for good")
    cancelled = count("items that were given up")


class SettledCounts(Schema):
    """What has ended."""

    batches = fields.Nested(BatchOutcomes, required=True)
    items = fields.Nested(ItemOutcomes, required=True)


class Quantiles(Schema):
    """How durations are spread, as upper bounds of the buckets they are counted in."""

    p50 = number("half of them did not take longer", allow_none=True)
    p95 = number("95 of 100 did not take longer", allow_none=True)


class Waits(Quantiles):
    """The same, and what none of them exceeds."""

    max = number("none took longer", allow_none=True)


class AmountsByClass(Schema):
    """How much it was, by class."""

    HIGH = fields.Nested(BatchesAndItems, required=True)
    MEDIUM = fields.Nested(BatchesAndItems, required=True)
    LOW = fields.Nested(BatchesAndItems, required=True)


class DepthByClass(Schema):
    """What waited, by class; null if nobody knows."""

    HIGH = fields.Nested(BatchesAndItems, required=True, allow_none=True)
    MEDIUM = fields.Nested(BatchesAndItems, required=True, allow_none=True)
    LOW = fields.Nested(BatchesAndItems, required=True, allow_none=True)


class SettledByClass(Schema):
    """What has ended, by class."""

    HIGH = fields.Nested(SettledCounts, required=True)
    MEDIUM = fields.Nested(SettledCounts, required=True)
    LOW = fields.Nested(SettledCounts, required=True)


class WaitsByClass(Schema):
    """How long it waited, by class; null if nothing was started."""

    HIGH = fields.Nested(Waits, required=True, allow_none=True)
    MEDIUM = fields.Nested(Waits, required=True, allow_none=True)
    LOW = fields.Nested(Waits, required=True, allow_none=True)


class HistoryStep(Schema):
    """What happened in a part of the period."""

    at = time("when it begins")
    accepted = fields.Nested(AmountsByClass, required=True)
    started = fields.Nested(AmountsByClass, required=True)
    settled = fields.Nested(SettledByClass, required=True)
    slots = fields.Integer(
        required=True,
        allow_none=True,
        metadata={
            "description": "batches that could have been started, null if nobody knows or there "
            "is no limit"
        },
    )
    depth = fields.Nested(DepthByClass, required=True)
    wait_seconds = fields.Nested(WaitsByClass, required=True)
    upstream_seconds = fields.Nested(Quantiles, required=True, allow_none=True)


class HistoryMark(Schema):
    """Something that was done to the queue as a whole."""

    at = time("when")
    kind = word("what it was", PACE_MARKS)
    detail = optional_text("what there is to say about it")


class History(Answer):
    """What happened in a period."""

    from_ = time("when the first step begins", data_key="from")
    to = time("when the last step ends")
    step_seconds = count("how long a step is; the last may be shorter")
    steps = fields.List(fields.Nested(HistoryStep), required=True)
    marks = fields.List(fields.Nested(HistoryMark), required=True)

    example: ClassVar[Any] = {
        "from": TIME,
        "to": "2026-01-01T13:00:00.000Z",
        "step_seconds": 60,
        "steps": [
            {
                "at": TIME,
                "accepted": dict.fromkeys(_NAMES, _BOTH),
                "started": dict.fromkeys(_NAMES, _BOTH),
                "settled": dict.fromkeys(_NAMES, _SETTLED),
                "slots": 12,
                "depth": dict.fromkeys(_NAMES, _BOTH),
                "wait_seconds": dict.fromkeys(_NAMES, _WAITED),
                "upstream_seconds": {"p50": 1.0, "p95": 2.0},
            }
        ],
        "marks": [{"at": TIME, "kind": "pause", "detail": "lunch"}],
    }
