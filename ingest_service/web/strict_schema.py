"""Schemas that refuse what they do not know, and say what was probably meant."""

import difflib
from typing import Any, ClassVar, Literal, cast

from marshmallow import RAISE, Schema, ValidationError, fields

from ingest_service.domain.model import Priority

#: What becomes of unknown keys, in the words of marshmallow.
Unknown = Literal["exclude", "raise"]

MAX_TEXT = 1_024
#: How many errors of one list, or one object, are worked out.
DETAILED = 20
MISSING = "This key is missing."
#: Key under which it is told how many more errors there are; an object, so that it cannot be
#: mistaken for a key that a client sent.
OMITTED = object()


class StrictSchema(Schema):
    """Refuses unknown keys, and names the key that was probably meant."""

    class Meta:
        unknown = RAISE

    #: The keys that a client may think of, where they are more than the fields.
    known: ClassVar[tuple[str, ...]] = ()
    #: What the document shows.
    example: ClassVar[Any]

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
        for key in unknown[:DETAILED]:
            messages[key] = [f"Unknown key; {self._hint(key)}"]
        if len(unknown) > DETAILED:
            messages[OMITTED] = len(unknown) - DETAILED

    def _hint(self, key: str) -> str:
        known = self.known or tuple(self.fields)
        near = difflib.get_close_matches(key[:100], known, n=1, cutoff=0.6)
        return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}."


class PriorityField(fields.Enum[Priority]):
    """Exactly the name of a priority."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(Priority, **kwargs)
        allowed = f"The priority must be one of {self.choices_text}."
        self.error_messages |= {"required": f"{MISSING} {allowed}"}
        for key in ("invalid", "unknown", "null"):
            self.error_messages[key] = allowed

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        # The base class looks names up as attributes, of which there are more.
        priority = Priority.__members__.get(value) if isinstance(value, str) else None
        if priority is None:
            raise self.make_error("unknown", choices=self.choices_text)
        return priority
