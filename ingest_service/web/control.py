"""What an operator changes: single ingestions, and the queue as a whole."""

from flask import Blueprint, Response, request

from ingest_service.web import answers, render
from ingest_service.web.openapi import operation
from ingest_service.web.request import read_body, the_service
from ingest_service.web.request_schemas import (
    IntervalRequest,
    MoveRequest,
    PauseRequest,
    PeriodQuery,
    parse_body,
    parse_query,
)
from ingest_service.web.responses import answer
from ingest_service.web.strict_json import read_json

bp = Blueprint("control", __name__)

_BODY_PROBLEMS = (
    "malformed-request",
    "invalid-json",
    "validation-error",
    "payload-too-large",
    "request-timeout",
    "unsupported-media-type",
)


@bp.post("/ingestions/<ingestion_id>/cancel")
@operation(
    "Cancel an ingestion",
    "What has not been started is cancelled at once and never will be; the batch under way ends. "
    "Doing it again changes nothing.",
    tag="Control",
    answers={200: answers.CANCELLED},
    problems=("not-found", "conflict", "storage-unavailable"),
)
def cancel(ingestion_id: str) -> Response:
    """Cancel an ingestion."""
    the_service().control.cancel(ingestion_id)
    return answer(render.cancelled(the_service().status(ingestion_id, 0, 0)))


@bp.patch("/ingestions/<ingestion_id>")
@operation(
    "Change the priority of an ingestion",
    "Moves what is left of it; the answer tells the old and the new estimate, how many other "
    "ingestions end later because of it, and by how many seconds at most.",
    tag="Control",
    bodies=(MoveRequest,),
    answers={200: answers.MOVED},
    problems=(*_BODY_PROBLEMS, "not-found", "conflict", "storage-unavailable"),
)
def move(ingestion_id: str) -> Response:
    """Change the priority of an ingestion."""
    priority = parse_body(MoveRequest, read_json(read_body()))["priority"]
    service = the_service()
    old = service.status(ingestion_id, 0, 0).priority
    before = service.prospects(ingestion_id)
    moved = service.control.move(ingestion_id, priority)
    after = service.prospects(ingestion_id)
    snapshot = service.status(ingestion_id, 0, 0)
    return answer(render.moved(snapshot, old, before, after, moved))


@bp.post("/ingestions/<ingestion_id>/retry")
@operation(
    "Try what has failed again",
    "Queues the failed items once more, in the old place, with a new set of attempts.",
    tag="Control",
    answers={200: answers.RETRIED},
    problems=("not-found", "conflict", "queue-full", "storage-unavailable"),
)
def retry(ingestion_id: str) -> Response:
    """Queue failed items once more."""
    items = the_service().control.retry(ingestion_id)
    return answer(render.retried(the_service().status(ingestion_id, 0, 0), items))


@bp.get("/queue")
@operation(
    "Look at the queue",
    "What waits in each class, what is under way, and the next 60 slots.",
    tag="Control",
    answers={200: answers.QUEUE},
)
def show_queue() -> Response:
    """Tell how the queue is."""
    return _queue()


@bp.post("/queue/pause")
@operation(
    "Pause the queue",
    "Nothing is started until it is resumed, also over restarts; batches under way end.",
    tag="Control",
    bodies=(PauseRequest,),
    body_required=False,
    answers={200: answers.QUEUE},
    problems=(*_BODY_PROBLEMS, "storage-unavailable"),
)
def pause() -> Response:
    """Pause the queue."""
    body = read_body()
    wanted = parse_body(PauseRequest, read_json(body) if body else {})
    the_service().control.pause(wanted["reason"])
    return _queue()


@bp.post("/queue/resume")
@operation(
    "Resume the queue",
    "Goes on at the pace: slots that were not used are gone.",
    tag="Control",
    answers={200: answers.QUEUE},
    problems=("storage-unavailable",),
)
def resume() -> Response:
    """Resume the queue."""
    the_service().control.resume()
    return _queue()


@bp.patch("/queue")
@operation(
    "Change the interval",
    "Counts from the last start, and holds over restarts until `INGEST_INTERVAL` itself is "
    "changed.",
    tag="Control",
    bodies=(IntervalRequest,),
    answers={200: answers.QUEUE},
    problems=(*_BODY_PROBLEMS, "storage-unavailable"),
)
def set_interval() -> Response:
    """Change the interval."""
    wanted = parse_body(IntervalRequest, read_json(read_body()))
    the_service().control.set_interval(float(wanted["interval_seconds"]))
    return _queue()


@bp.get("/rate-proof")
@operation(
    "Prove the rate",
    "For the owner of the upstream: how many batches were started in a period, the smallest gap "
    "between two starts, and those that came too early, as recorded before each call.",
    tag="Control",
    query=PeriodQuery,
    answers={200: answers.RATE_PROOF},
    problems=("validation-error", "storage-unavailable"),
)
def show_rate_proof() -> Response:
    """Tell what the starts of a period show."""
    period = parse_query(PeriodQuery, request.args)
    since, until = period.get("from"), period.get("to")
    return answer(render.rate_proof(since, until, the_service().rate_proof(since, until)))


def _queue() -> Response:
    return answer(render.queue(the_service().queue()))
