"""What is answered about the service itself, and what problems look like."""

from typing import Any, ClassVar

from marshmallow import INCLUDE, Schema, fields, validate

from ingest_service.domain.model import QueueState
from ingest_service.version import VERSION
from ingest_service.web.response_fields import (
    TIME,
    Answer,
    count,
    optional_text,
    text,
    time,
    word,
)

GREETING = "Ingestion API is live!"


class Live(Answer):
    """A greeting."""

    message = text("always the same", GREETING)

    example: ClassVar[Any] = {"message": GREETING}


class Liveness(Answer):
    """The process answers."""

    status = text("always the same", "live")

    example: ClassVar[Any] = {"status": "live"}


class Readiness(Answer):
    """Work is taken."""

    status = text("always the same", "ready")

    example: ClassVar[Any] = {"status": "ready"}


class KeysReport(Answer):
    """How the API keys are."""

    in_force = count("keys that let somebody in")
    trouble = optional_text(
        "why the keys file as it is now is not used, but as it was before; null if it is"
    )

    example: ClassVar[Any] = {"in_force": 3, "trouble": None}


class HealthReport(Answer):
    """How the service is."""

    status = text("always the same", "healthy")
    timestamp = time("now")
    active_requests = count("ingestions that are not finished")
    worker = text("what sends batches", "running", "stopped")
    workers = count("processes that send batches, as far as they were seen")
    queued_items = count("items that wait")
    queue = word("what the queue does", QueueState)
    reason = optional_text("why it does not run")
    until = time("until when it is held", allow_none=True)
    trouble = optional_text("what keeps work from being taken or going on; null if nothing does")
    keys = fields.Nested(
        KeysReport,
        required=True,
        allow_none=True,
        metadata={"description": "null if nobody needs a key"},
    )
    version = text("of this service")
    max_items = count("items that one request may have")
    max_body = count("bytes that the body of one request may have")

    example: ClassVar[Any] = {
        "status": "healthy",
        "timestamp": TIME,
        "active_requests": 2,
        "worker": "running",
        "workers": 1,
        "queued_items": 17,
        "queue": "running",
        "reason": None,
        "until": None,
        "trouble": None,
        "keys": KeysReport.example,
        "version": VERSION,
        "max_items": 1_000_000,
        "max_body": 67_108_864,
    }


class ErrorEntry(Schema):
    """One thing that is wrong with a request."""

    pointer = text("where (RFC 6901)")
    detail = text("what is expected there")


class ProblemDetails(Schema):
    """An error (RFC 9457)."""

    type = text("kind of problem; its page explains it")
    title = text("the kind in words")
    status = fields.Integer(required=True)
    detail = text("what is wrong")
    error = text("the same as `detail`")
    errors = fields.List(fields.Nested(ErrorEntry), validate=validate.Length(max=20))
    errors_omitted = fields.Integer(metadata={"description": "how many more errors there are"})


class ProblemPage(Answer):
    """What a kind of problem means."""

    type = text("its name")
    title = text("the kind in words")
    status = fields.Integer(required=True)
    explanation = text("what it means and what to do")

    example: ClassVar[Any] = {
        "type": "/problems/queue-full",
        "title": "The queue is full",
        "status": 503,
        "explanation": "Nothing was stored. Repeat the request after `Retry-After`.",
    }


class Document(Answer):
    """An OpenAPI 3.1 document."""

    class Meta:
        unknown = INCLUDE

    openapi = text("version of the format")
    info = fields.Dict(required=True, metadata={"description": "name and version"})
    paths = fields.Dict(required=True, metadata={"description": "the routes"})

    example: ClassVar[Any] = {
        "openapi": "3.1.0",
        "info": {"title": "ingest_service", "version": VERSION},
        "paths": {},
    }
