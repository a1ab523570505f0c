"""What is answered to whoever asks who did what."""

from typing import Any, ClassVar

from marshmallow import Schema, fields

from ingest_service.engines.audit import Action
from ingest_service.web.response_fields import (
    ID,
    TIME,
    Answer,
    optional_text,
    time,
    uuid,
    word,
)

_CANCELLED = {
    "at": TIME,
    "key": "nightly-import",
    "action": "cancel",
    "target": ID,
    "before": {"queued": 4},
    "after": {"cancelled": 4},
    "request_id": "8f14e45f-ceea-467f-a8f5-1c2b3d4e5f60",
}


class AuditEntry(Schema):
    """Something that somebody did."""

    at = time("when")
    key = optional_text("name of the key it was done with, null without one")
    action = word("what it was", Action)
    target = uuid("the ingestion it was done to, null for the queue as a whole", allow_none=True)
    before = fields.Raw(
        required=True, allow_none=True, metadata={"description": "how it was, if that matters"}
    )
    after = fields.Raw(required=True, allow_none=True, metadata={"description": "how it was then"})
    request_id = optional_text("the `X-Request-ID` of the answer, null if it was no request")


class AuditPage(Answer):
    """A page of what was done."""

    entries = fields.List(fields.Nested(AuditEntry), required=True)
    next_cursor = optional_text("where the next page begins, null on the last one")

    example: ClassVar[Any] = {"entries": [_CANCELLED], "next_cursor": None}
    #: The same as a stream, by media type.
    streams: ClassVar[dict[str, str]] = {
        "application/x-ndjson": f'{{"at":"{TIME}","key":"nightly-import","action":"pause",'
        '"target":null,"before":null,"after":"lunch","request_id":null}\n',
    }
