"""What answers are made of: fields that say what they mean, and write it as clients read it."""

from collections.abc import Iterable
from enum import Enum
from typing import Any, ClassVar

from marshmallow import Schema, fields, validate

from ingest_service.domain.model import Priority
from ingest_service.web.responses import timestamp

ID = "8f14e45f-ceea-467f-a8f5-1c2b3d4e5f60"
BATCH_ID = "8f14e45f-ceea-467f-a8f5-1c2b3d4e5f61"
TIME = "2026-01-01T12:00:00.000Z"


class Answer(Schema):
    """A shape of answers; the document is made of it, and small answers are dumped through it."""

    #: What the document shows.
    example: ClassVar[Any]


class Instant(fields.DateTime):
    """A moment: RFC 3339, in UTC, to the millisecond."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return timestamp(value)


class PriorityName(fields.String):
    """A class, by its name."""

    def __init__(self, about: str) -> None:
        super().__init__(
            required=True,
            validate=validate.OneOf([priority.name for priority in Priority]),
            metadata={"description": about},
        )

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return value.name


def count(about: str) -> fields.Integer:
    """Return a field for a number of things."""
    return fields.Integer(
        required=True, validate=validate.Range(min=0), metadata={"description": about}
    )


def text(about: str, *allowed: str) -> fields.String:
    """Return a field for a text, one of those `allowed` if there are any."""
    checks = [validate.OneOf(allowed)] if allowed else []
    return fields.String(required=True, validate=checks, metadata={"description": about})


def word(about: str, words: Iterable[str]) -> fields.String:
    """Return a field for one of `words`, which may be an enum or have repetitions."""
    plain = (choice.value if isinstance(choice, Enum) else choice for choice in words)
    return text(about, *dict.fromkeys(plain))


def optional_word(about: str, words: Iterable[str]) -> fields.String:
    """Return a field for one of `words`, or null."""
    return fields.String(
        required=True,
        allow_none=True,
        validate=validate.OneOf([*(str(choice) for choice in words), None]),
        metadata={"description": about},
    )


def optional_text(about: str) -> fields.String:
    """Return a field for a text, or null."""
    return fields.String(required=True, allow_none=True, metadata={"description": about})


def number(about: str, **kwargs: Any) -> fields.Float:
    """Return a field for a number."""
    return fields.Float(required=True, metadata={"description": about}, **kwargs)


def time(about: str, **kwargs: Any) -> Instant:
    """Return a field for a moment."""
    return Instant(required=True, metadata={"description": about}, **kwargs)


def uuid(about: str, **kwargs: Any) -> fields.UUID:
    """Return a field for the id of something."""
    return fields.UUID(required=True, metadata={"description": about}, **kwargs)
