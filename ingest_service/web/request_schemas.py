"""The JSON contract of what comes in; outside this module nothing is untyped."""

import base64
import difflib
import re
import struct
from array import array
from collections.abc import Mapping as MappingABC
from typing import Any, NoReturn, cast

from marshmallow import (
    EXCLUDE,
    RAISE,
    Schema,
    ValidationError,
    fields,
    post_load,
    validate,
    validates,
)

from ingest_service.domain.items import Ids, Items, Mappings
from ingest_service.domain.model import Priority, Status

MAX_ID = 1_000_000_007
MAX_TEXT = 1_024
MAX_DEPTH = 16
#: Most batches or results in one answer.
MAX_PAGE = 10_000
#: More than there can ever be, and small enough for every reader of numbers.
MAX_OFFSET = 10**15

#: Key under which it is told how many more errors there are; an object, so that it cannot be
#: mistaken for a key that a client sent.
OMITTED = object()
_DETAILED = 20

_MISSING = "This key is missing."
#: Longest time an unchanged answer is held back, and longest interval, in seconds.
MAX_WAIT = 60
MAX_INTERVAL = 86_400
_INTERVAL = f"This must be a number of seconds from 0 to {MAX_INTERVAL}."
_CURSOR = struct.Struct(">q")
#: Eight bytes, of which the first bit is 0: SQLite knows no larger numbers.
_CURSOR_PATTERN = r"[A-Za-f][A-Za-z0-9_-]{10}="
#: Before everything that there can be.
_NEWEST = 2**62
_STATUS_WORDS = {
    "yet_to_start": Status.WAITING,
    "pending": Status.WAITING,
    "triggered": Status.STARTED,
    "in_progress": Status.STARTED,
    "completed": Status.COMPLETED,
    "failed": Status.FAILED,
    "cancelled": Status.CANCELLED,
}


class StrictSchema(Schema):
    """Refuses unknown keys, and names the key that was probably meant."""

    class Meta:
        unknown = RAISE

    known: tuple[str, ...] = ()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.error_messages |= {"type": "This must be a JSON object."}

    def handle_error(self, error: ValidationError, data: Any, **_: Any) -> None:
        """Add the nearest known key to the message about an unknown one."""
        messages = cast(dict[Any, Any], error.messages)
        if not isinstance(data, dict):
            error.messages = messages["_schema"]
            return
        unknown = sorted(set(messages) - set(self.fields))
        # Put in anew, because marshmallow finds them in the order of a set.
        for key in unknown:
            del messages[key]
        for key in unknown[:_DETAILED]:
            messages[key] = [f"Unknown key; {self._hint(key)}"]
        if len(unknown) > _DETAILED:
            messages[OMITTED] = len(unknown) - _DETAILED

    def _hint(self, key: str) -> str:
        known = self.known or tuple(self.fields)
        near = difflib.get_close_matches(key[:100], known, n=1, cutoff=0.6)
        return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}."


class PriorityField(fields.Enum[Priority]):
    """Exactly the name of a priority."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(Priority, **kwargs)
        allowed = f"The priority must be one of {self.choices_text}."
        self.error_messages |= {"required": f"{_MISSING} {allowed}"}
        for key in ("invalid", "unknown", "null"):
            self.error_messages[key] = allowed

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        # The base class looks names up as attributes, so it needs a string.
        if not isinstance(value, str):
            raise self.make_error("unknown", choices=self.choices_text)
        return super()._deserialize(value, *args, **kwargs)


class ItemList(fields.Field[Items]):
    """A list that is checked as a whole, and element by element only if something is wrong.

    marshmallow's own `List` takes seven times as long for a million ids as reading
    them does; this takes a fifth of it.
    """

    what: str

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.error_messages |= {
            "required": _MISSING,
            "null": f"This must be a list of {self.what}.",
        }

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Items:
        limit = self.metadata_limit
        if not isinstance(value, list):
            raise ValidationError(f"This must be a list of {self.what}.")
        if not 1 <= len(value) <= limit:
            raise ValidationError(
                f"This must have from 1 to {limit} elements and has {len(value)}."
            )
        return self.check(value)

    @property
    def metadata_limit(self) -> int:
        """The most elements the running service takes."""
        return int(cast(_SubmitSchema, self.root).item_limit)

    def check(self, value: list[Any]) -> Items:
        """Return the items, or raise `ValidationError` with messages by index."""
        raise NotImplementedError


class IdList(ItemList):
    """Integers from 1 to `MAX_ID`."""

    what = "whole numbers"

    def check(self, value: list[Any]) -> Items:
        """Accept a float without fraction as the integer it is, in JSON they are the same."""
        plain = _plain_ids(value)
        if plain is not None:
            return plain
        bad = [index for index, each in enumerate(value) if not _is_id(each)]
        if bad:
            text = f"An id must be a whole number from 1 to {MAX_ID}."
            _refuse({index: [text] for index in bad[:_DETAILED]}, len(bad))
        return Ids(map(int, value))


class MappingSchema(StrictSchema):
    """One mapping."""

    id = fields.String(required=True, validate=validate.Length(1, MAX_TEXT))
    source = fields.String(required=True, validate=validate.Length(1, MAX_TEXT))
    target = fields.String(required=True, validate=validate.Length(1, MAX_TEXT))
    transformation = fields.Dict(keys=fields.String())


class MappingList(ItemList):
    """Mappings with ids of their own."""

    what = "mappings"
    _element = MappingSchema()

    def check(self, value: list[Any]) -> Items:
        """Check each mapping by hand first: the schema is 20 times as slow."""
        seen: set[str] = set()
        bad: list[int] = []
        for index, each in enumerate(value):
            if _is_mapping(each) and each["id"] not in seen:
                seen.add(each["id"])
            else:
                bad.append(index)
        if bad:
            _refuse({index: self._messages(value[index]) for index in bad[:_DETAILED]}, len(bad))
        return Mappings(value)

    def _messages(self, value: Any) -> Any:
        if _is_mapping(value):
            return {"id": ["Another mapping of this request has the same id."]}
        return self._element.validate(value) or {
            "transformation": [
                f"This must be at most {MAX_DEPTH} deep, with integers of at most 64 bits."
            ]
        }


class _SubmitSchema(StrictSchema):
    known = ("ids", "mappings", "priority")
    item_limit = 0

    priority = PriorityField(required=True)


class IdsRequest(_SubmitSchema):
    """A request for ids."""

    ids = IdList(required=True)


class MappingsRequest(_SubmitSchema):
    """A request for mappings."""

    mappings = MappingList(required=True)


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
        metadata={"description": "`true`: check everything, tell the plan, store nothing"},
    )

    @post_load
    def to_bool(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Return what the words mean."""
        return {"dry_run": data["dry_run"] == "true"}


class ResultsQuery(PageQuery):
    """Which results."""

    format = fields.String(
        load_default="json",
        validate=validate.OneOf(("json", "ndjson", "csv")),
        metadata={"description": "`ndjson` and `csv` are streamed"},
    )

    outcome = fields.String(
        validate=validate.OneOf(("succeeded", "failed")),
        metadata={"description": "only items that ended like this"},
    )


class FindQuery(StatusQuery):
    """Which ingestion."""

    ingestion_id = fields.String(
        required=True,
        error_messages={"required": _MISSING},
        metadata={"description": "what the submission was answered"},
    )


class Cursor(fields.String):
    """Where a list goes on; what it says is nobody's business."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if not re.fullmatch(_CURSOR_PATTERN, value):
            raise ValidationError("This is not a cursor that was given out here.")
        return _CURSOR.unpack(base64.urlsafe_b64decode(value))[0]


def cursor(sequence: int) -> str:
    """Return the cursor of a list that goes on below `sequence`."""
    return base64.urlsafe_b64encode(_CURSOR.pack(sequence)).decode("ascii")


class IngestionsQuery(QuerySchema):
    """Which ingestions."""

    status = fields.String(
        validate=validate.OneOf(tuple(_STATUS_WORDS)),
        metadata={"description": "in the words of either family of clients"},
    )
    priority = PriorityField(metadata={"description": "only of this class"})
    limit = WholeNumber(
        load_default=50,
        validate=validate.Range(1, 1_000),
        metadata={"description": "how many to list at most"},
    )
    cursor = Cursor(
        metadata={
            "description": "`next_cursor` of the page before",
            "pattern": f"^{_CURSOR_PATTERN}$",
        },
    )

    @post_load
    def to_values(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Return one word for the two that mean the same, and where the list begins."""
        status = _STATUS_WORDS.get(data.get("status", ""))
        return {"cursor": _NEWEST} | data | {"status": status}


class Instant(fields.AwareDateTime):
    """A moment with its offset from UTC (RFC 3339)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(format="iso", default_timezone=None, **kwargs)
        text = "This must be a time with an offset, as in 2026-01-01T12:00:00Z."
        for key in ("invalid", "invalid_awareness", "format"):
            self.error_messages[key] = text

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        found = super()._deserialize(value, *args, **kwargs)
        if not 1970 <= found.year <= 9000:
            raise self.make_error("invalid")
        return found


class PeriodQuery(QuerySchema):
    """From when to when."""

    from_ = Instant(data_key="from", metadata={"description": "the first moment"})
    to = Instant(metadata={"description": "the moment after the last one"})

    @post_load
    def to_words(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Return the values under the names that clients use."""
        return {key.rstrip("_"): value for key, value in data.items()}


class MoveRequest(StrictSchema):
    """Another class."""

    priority = PriorityField(required=True)


class PauseRequest(StrictSchema):
    """Why."""

    reason = fields.String(load_default="", validate=validate.Length(0, MAX_TEXT))


class IntervalRequest(StrictSchema):
    """Another pace."""

    interval_seconds = fields.Raw(
        required=True,
        error_messages={"required": _MISSING, "null": _INTERVAL},
        metadata={"type": "number", "minimum": 0, "maximum": MAX_INTERVAL},
    )

    @validates("interval_seconds")
    def check_interval(self, value: Any, **_: Any) -> None:
        """Refuse what is not a number, and what the setting would refuse."""
        if type(value) not in (int, float) or not 0 <= value <= MAX_INTERVAL:
            raise ValidationError(_INTERVAL)


def parse_body(schema: type[StrictSchema], payload: Any) -> dict[str, Any]:
    """Return the values of a body; raise `ValidationError`."""
    return cast(dict[str, Any], schema().load(payload))


def parse_submission(payload: Any, item_limit: int) -> tuple[Items, Priority]:
    """Return what a valid `POST /ingest` body asks for; raise `ValidationError`."""
    if isinstance(payload, dict) and "ids" in payload and "mappings" in payload:
        raise ValidationError("Give either ids or mappings, not both.")
    wants_mappings = isinstance(payload, dict) and "mappings" in payload
    schema = MappingsRequest() if wants_mappings else IdsRequest()
    schema.item_limit = item_limit
    loaded = cast(dict[str, Any], schema.load(payload))
    return loaded["mappings" if wants_mappings else "ids"], loaded["priority"]


def parse_query(schema: type[QuerySchema], values: MappingABC[str, str]) -> dict[str, Any]:
    """Return the values of a query string; raise `ValidationError`."""
    return cast(dict[str, Any], schema().load(values))


def _plain_ids(value: list[Any]) -> Ids | None:
    """Return the ids if all are integers in range; each step goes once through a million."""
    try:
        ids = array("I", value)
    except (TypeError, OverflowError):
        return None
    # Booleans pass for 0 and 1, so only where there is one of these the types matter.
    if 0 in value or max(value) > MAX_ID or (1 in value and set(map(type, value)) != {int}):
        return None
    return Ids(ids)


def _is_id(value: Any) -> bool:
    return type(value) in (int, float) and value == int(value) and 1 <= value <= MAX_ID


def _is_mapping(value: Any) -> bool:
    return (
        type(value) is dict
        and value.keys() <= {"id", "source", "target", "transformation"}
        and all(
            type(value.get(key)) is str and 1 <= len(value[key]) <= MAX_TEXT
            for key in ("id", "source", "target")
        )
        and ("transformation" not in value or _is_transformation(value["transformation"]))
    )


def _is_transformation(value: Any) -> bool:
    return type(value) is dict and _fits(value, MAX_DEPTH)


def _fits(value: Any, depth: int) -> bool:
    """Tell whether `value` can be written again: not too deep, integers of 64 bits."""
    if isinstance(value, dict | list):
        below = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_fits(each, depth - 1) for each in below)
    return type(value) is not int or -(2**63) <= value < 2**63


def _refuse(messages: dict[Any, Any], wrong: int) -> NoReturn:
    omitted = wrong - len(messages)
    raise ValidationError(messages | ({OMITTED: omitted} if omitted else {}))
