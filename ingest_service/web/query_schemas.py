"""What query strings may say; what is not known in them is ignored."""

import base64
import re
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, cast

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validate

from ingest_service.domain.model import FAMILIES, OutcomeWord
from ingest_service.engines import audit
from ingest_service.engines.audit import Action, AuditPlace
from ingest_service.keys.key import NAME
from ingest_service.web.strict_schema import PriorityField

#: Most batches or results in one answer.
MAX_PAGE = 10_000
#: More than there can ever be, and small enough for every reader of numbers.
MAX_OFFSET = 10**15
#: Longest time an unchanged answer is held back, in seconds.
MAX_WAIT = 60
_CURSOR = struct.Struct(">q")
#: Eight bytes, of which the first bit is 0: SQLite knows no larger numbers.
_CURSOR_PATTERN = r"[A-Za-f][A-Za-z0-9_-]{10}="
#: A time, a source and a number; both numbers as above, and nothing is left over of the last byte.
_AUDIT_CURSOR = struct.Struct(">qBxq")
_AUDIT_CURSOR_PATTERN = r"[A-Za-f][A-Za-z0-9_-]{23}"
#: Before everything that there can be.
_NEWEST = 2**62


class WholeNumber(fields.Integer):
    """Decimal digits in a query string; the base class also takes `1_0` and ` 1`."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if not re.fullmatch(r"[0-9]{1,100}", value):
            raise ValidationError("This must be a whole number.")
        return int(value)


class QuerySchema(Schema):
    """A query string; what is not known in it is ignored."""

    class Meta:
        unknown = EXCLUDE


class PageQuery(QuerySchema):
    """Which part of a long list."""

    offset = WholeNumber(
        load_default=0,
        validate=validate.Range(0, MAX_OFFSET),
        metadata={"description": "how many to leave out at the beginning"},
    )
    limit = WholeNumber(
        load_default=MAX_PAGE,
        validate=validate.Range(1, MAX_PAGE),
        metadata={"description": "how many to list at most"},
    )


class StatusQuery(PageQuery):
    """Which batches, and how long an unchanged answer may be held back."""

    wait = WholeNumber(
        load_default=0,
        validate=validate.Range(0, MAX_WAIT),
        metadata={"description": "seconds to wait for a change"},
    )


class SubmitQuery(QuerySchema):
    """Whether it is meant."""

    dry_run = fields.String(
        load_default="false",
        validate=validate.OneOf(("true", "false")),
        metadata={"description": "`true`: check the request, tell the plan, store nothing"},
    )

    @post_load
    def to_bool(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Return what the words mean."""
        return {"dry_run": data["dry_run"] == "true"}


class MoveQuery(SubmitQuery):
    """Whether it is meant."""

    dry_run = fields.String(
        load_default="false",
        validate=validate.OneOf(("true", "false")),
        metadata={"description": "`true`: tell the effect, change nothing"},
    )


class ResultsQuery(PageQuery):
    """Which results."""

    format = fields.String(
        load_default="json",
        validate=validate.OneOf(("json", "ndjson", "csv")),
        metadata={"description": "`ndjson` and `csv` are streamed"},
    )

    outcome = fields.String(
        validate=validate.OneOf((OutcomeWord.SUCCEEDED.value, OutcomeWord.FAILED.value)),
        metadata={"description": "only items that ended like this"},
    )


class FindQuery(StatusQuery):
    """Which ingestion."""

    ingestion_id = fields.String(metadata={"description": "what the submission was answered"})
    request_id = fields.String(metadata={"description": "the same, as clients of mappings call it"})


class Cursor(fields.String):
    """Where a list goes on; what it says is nobody's business."""

    packing, pattern = _CURSOR, _CURSOR_PATTERN

    def __init__(self) -> None:
        super().__init__(
            metadata={
                "description": "`next_cursor` of the page before",
                "pattern": f"^{self.pattern}$",
            }
        )

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if not re.fullmatch(self.pattern, value):
            raise ValidationError("This is not a cursor that was given out here.")
        numbers = self.packing.unpack(base64.urlsafe_b64decode(value))
        return numbers if len(numbers) > 1 else numbers[0]


class AuditCursor(Cursor):
    """The same for a list of what was done."""

    packing, pattern = _AUDIT_CURSOR, _AUDIT_CURSOR_PATTERN


def cursor(sequence: int) -> str:
    """Return the cursor of a list that goes on below `sequence`."""
    return base64.urlsafe_b64encode(_CURSOR.pack(sequence)).decode("ascii")


def audit_cursor(place: AuditPlace) -> str:
    """Return the cursor of what was done that goes on before `place`."""
    return base64.urlsafe_b64encode(_AUDIT_CURSOR.pack(*place)).decode("ascii")


class ShownWord(fields.String):
    """A word that lists show as `status`."""

    words = tuple(
        dict.fromkeys(word for family in FAMILIES.values() for word in family.words.values())
    )

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if value in self.words:
            return value
        if value in list(OutcomeWord):
            raise ValidationError(f"This is an outcome: ask for it with outcome={value}.")
        raise ValidationError(f"Must be one of: {', '.join(self.words)}.")


class KeyName(fields.String):
    """The name of a key; what can be none is nobody's: not every engine could look it up."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        return value if NAME.fullmatch(value) else ""


class IngestionsQuery(QuerySchema):
    """Which ingestions."""

    status = ShownWord(
        validate=validate.OneOf(ShownWord.words),
        metadata={"description": "those that show this word, of either family of clients"},
    )
    outcome = fields.Enum(
        OutcomeWord, by_value=True, metadata={"description": "those that ended like this"}
    )
    priority = PriorityField(metadata={"description": "only of this class"})
    limit = WholeNumber(
        load_default=50,
        validate=validate.Range(1, 1_000),
        metadata={"description": "how many to list at most"},
    )
    submitted_by = KeyName(
        metadata={"description": "those that were submitted with the key of this name"}
    )
    cursor = Cursor()

    @post_load
    def from_the_newest_on(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Begin at the beginning, unless told otherwise; the document shows no such cursor."""
        return {"cursor": _NEWEST} | data


class Instant(fields.AwareDateTime):
    """A moment with its offset from UTC (RFC 3339)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(format="iso", default_timezone=None, **kwargs)
        text = "This must be a time with an offset, as in 2026-01-01T12:00:00Z."
        for key in ("invalid", "invalid_awareness", "format"):
            self.error_messages[key] = text
        self.error_messages["range"] = "This must be a time from 1970 to 9000."

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        instant = super()._deserialize(value, *args, **kwargs)
        if not 1970 <= instant.year <= 9000:
            raise self.make_error("range")
        return instant


class _Period(QuerySchema):
    """From when to when."""

    from_ = Instant(data_key="from", metadata={"description": "the first moment"})
    to = Instant(metadata={"description": "the moment after the last one"})


class PeriodQuery(_Period):
    """From when to when."""

    @post_load
    def to_words(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Return the values under the names that clients use."""
        return {key.rstrip("_"): value for key, value in data.items()}


class AuditQuery(_Period):
    """Which of what was done."""

    key = KeyName(metadata={"description": "what was done with the key of this name"})
    action = fields.Enum(Action, by_value=True, metadata={"description": "only this"})
    limit = WholeNumber(
        load_default=100,
        validate=validate.Range(1, 1_000),
        metadata={"description": "how many to list at most"},
    )
    cursor = AuditCursor()
    format = fields.String(
        load_default="json",
        validate=validate.OneOf(("json", "ndjson")),
        metadata={"description": "`ndjson` is streamed"},
    )

    @post_load
    def to_entries(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Return the question as the engine is asked it, and the form of the answer."""
        entries = audit.AuditQuery(
            since=data.get("from_", datetime.min.replace(tzinfo=UTC)),
            until=data.get("to", datetime.max.replace(tzinfo=UTC)),
            limit=data["limit"],
            before=audit.AuditPlace(*data.get("cursor", audit.NEWEST)),
            key=data.get("key"),
            actions=[data["action"]] if "action" in data else list(Action),
        )
        return {"entries": entries, "format": data["format"]}


def load_query(schema: type[QuerySchema], values: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of a query string; raise `ValidationError`."""
    if not values:
        return dict(_of_nothing(schema))
    return cast(dict[str, Any], _instance(schema).load(values))


@cache
def _of_nothing(schema: type[QuerySchema]) -> dict[str, Any]:
    # Most requests have no query; an error is not kept.
    return cast(dict[str, Any], _instance(schema).load({}))


@cache
def _instance(schema: type[QuerySchema]) -> QuerySchema:
    # Making one takes longer than reading a query with it.
    return schema()
