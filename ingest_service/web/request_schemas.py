"""The bodies that are taken; behind this module nothing is untyped."""

from functools import cache
from typing import Any, ClassVar, cast

from marshmallow import ValidationError, fields, validate, validates, validates_schema

from ingest_service.domain.items import Items
from ingest_service.domain.model import Priority
from ingest_service.web.item_lists import IdList, MappingList
from ingest_service.web.strict_schema import MAX_TEXT, MISSING, PriorityField, StrictSchema, Unknown

#: Longest interval, in seconds.
MAX_INTERVAL = 86_400
_INTERVAL = f"This must be a number of seconds from 0 to {MAX_INTERVAL}."


class Absent(fields.Field[None]):
    """A key that may be there as long as it is null, because that means absent."""


class _SubmitSchema(StrictSchema):
    known = ("ids", "mappings", "priority")

    priority = PriorityField(required=True)

    def __init__(self, item_limit: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.item_limit = item_limit


class IdsRequest(_SubmitSchema):
    """A request for ids."""

    ids = IdList(required=True)
    mappings = Absent(metadata={"description": "nothing else than null"})

    example: ClassVar[Any] = {"ids": [1, 2, 3, 4, 5], "priority": "MEDIUM"}


class MappingsRequest(_SubmitSchema):
    """A request for mappings."""

    mappings = MappingList(required=True)
    ids = Absent(metadata={"description": "nothing else than null"})

    example: ClassVar[Any] = {
        "mappings": [
            {
                "id": "map_001",
                "source": "crm.customer",
                "target": "erp.partner",
                "transformation": {"upper": ["name"]},
            }
        ],
        "priority": "HIGH",
    }


class FindRequest(StrictSchema):
    """Which ingestion; either name does."""

    ingestion_id = fields.String(allow_none=True)
    request_id = fields.String(allow_none=True)

    example: ClassVar[Any] = {"ingestion_id": "8f14e45f-ceea-467f-a8f5-1c2b3d4e5f60"}

    @validates_schema
    def check_one_is_there(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse what names none; null counts as absent."""
        if all(name is None for name in data.values()):
            raise ValidationError({"ingestion_id": [MISSING]})


class MoveRequest(StrictSchema):
    """Another class."""

    priority = PriorityField(required=True)

    example: ClassVar[Any] = {"priority": "HIGH"}


class PauseRequest(StrictSchema):
    """Why the queue is paused, for those who look at it."""

    reason = fields.String(
        load_default="",
        validate=(
            validate.Length(0, MAX_TEXT),
            # Not every engine could keep it.
            validate.Regexp(r"^[^\x00]*$", error="This must not contain U+0000."),
        ),
    )

    example: ClassVar[Any] = {"reason": "the upstream is being maintained"}


class IntervalRequest(StrictSchema):
    """Another pace."""

    interval_seconds = fields.Raw(
        required=True,
        error_messages={"required": MISSING, "null": _INTERVAL},
        metadata={"type": "number", "minimum": 0, "maximum": MAX_INTERVAL},
    )

    example: ClassVar[Any] = {"interval_seconds": 2.5}

    @validates("interval_seconds")
    def check_interval(self, value: Any, **_: Any) -> None:
        """Refuse what is not a number, and what the setting would refuse."""
        if type(value) not in (int, float) or not 0 <= value <= MAX_INTERVAL:
            raise ValidationError(_INTERVAL)


def load(schema: type[StrictSchema], payload: Any, unknown: Unknown) -> dict[str, Any]:
    """Return the values of a body; raise `ValidationError`."""
    return cast(dict[str, Any], _instance(schema, unknown=unknown).load(payload))


def load_submission(payload: Any, unknown: Unknown, item_limit: int) -> tuple[Items, Priority]:
    """Return what a valid `POST /ingest` body asks for; raise `ValidationError`."""
    key = _what_is_there(payload)
    schema, other = (MappingsRequest, "ids") if key == "mappings" else (IdsRequest, "mappings")
    if isinstance(payload, dict) and other in payload:
        # It is null, which counts as absent.
        payload = {name: value for name, value in payload.items() if name != other}
    reader = _instance(schema, unknown=unknown, item_limit=item_limit, exclude=(other,))
    values = cast(dict[str, Any], reader.load(payload))
    return values[key], values["priority"]


def _what_is_there(payload: Any) -> str:
    """Tell whether a body is about ids or mappings; null counts as absent."""
    if not isinstance(payload, dict):
        return "ids"
    if payload.get("mappings") is None:
        return "mappings" if "mappings" in payload and "ids" not in payload else "ids"
    if payload.get("ids") is not None:
        raise ValidationError("Give either ids or mappings, not both.")
    return "mappings"


@cache
def _instance(schema: type[StrictSchema], **kwargs: Any) -> StrictSchema:
    # Making one takes longer than reading a small body with it.
    return schema(**kwargs)
