"""What an operator changes: single ingestions, and the queue as a whole."""

from dataclasses import replace

from flask import Blueprint, Response

from ingest_service.engines.audit import NEWEST
from ingest_service.errors import (
    Conflict,
    IngestionNotFound,
    QueueFull,
    QuotaFull,
    StorageUnavailable,
)
from ingest_service.keys.scope import Scope
from ingest_service.web import render, streams
from ingest_service.web.audit_schemas import AuditPage
from ingest_service.web.control_schemas import (
    CancelledIds,
    CancelledMappings,
    DeletedIds,
    DeletedMappings,
    MovedIds,
    MovedMappings,
    Queue,
    RateProofReport,
    RetriedIds,
    RetriedMappings,
)
from ingest_service.web.openapi import operation
from ingest_service.web.query_schemas import AuditQuery, MoveQuery, PeriodQuery
from ingest_service.web.request import (
    check_priority,
    parse_body,
    parse_query,
    the_caller,
    the_service,
)
from ingest_service.web.request_schemas import IntervalRequest, MoveRequest, PauseRequest
from ingest_service.web.responses import answer, conditional

bp = Blueprint("control", __name__)


@bp.post("/ingestions/<ingestion:ingestion_id>/cancel")
@operation(
    tag="Control",
    scope=Scope.OPERATE,
    returns=(CancelledIds, CancelledMappings),
    raises=(IngestionNotFound, Conflict, StorageUnavailable),
)
def cancel(ingestion_id: str) -> Response:
    """Cancel an ingestion.

    What has not been started is cancelled at once and never will be; the batch under way ends.
    Doing it again changes nothing.
    """
    return answer(render.cancelled(the_service().operator.cancel(ingestion_id, the_caller())))


@bp.patch("/ingestions/<ingestion:ingestion_id>")
@operation(
    tag="Control",
    scope=Scope.OPERATE,
    query=MoveQuery,
    bodies=(MoveRequest,),
    returns=(MovedIds, MovedMappings),
    raises=(IngestionNotFound, Conflict, StorageUnavailable),
)
def move(ingestion_id: str) -> Response:
    """Change the priority of an ingestion.

    Moves what is left of it; the answer tells the old and the new estimate, how many other
    ingestions end later because of it, and by how many seconds at most. With `dry_run` nothing is
    changed, and `new` is what would be.
    """
    priority = parse_body(MoveRequest)["priority"]
    check_priority(priority)
    dry_run = parse_query(MoveQuery)["dry_run"]
    report = the_service().operator.move(ingestion_id, priority, the_caller(), dry_run=dry_run)
    return answer(render.moved(report))


@bp.post("/ingestions/<ingestion:ingestion_id>/retry")
@operation(
    tag="Control",
    scope=Scope.OPERATE,
    returns=(RetriedIds, RetriedMappings),
    raises=(IngestionNotFound, Conflict, QueueFull, QuotaFull, StorageUnavailable),
)
def retry(ingestion_id: str) -> Response:
    """Try what has failed again.

    Queues the failed items once more, in the old place, with a new set of attempts.
    """
    items = the_service().operator.retry(ingestion_id, the_caller())
    return answer(render.retried(the_service().queries.status(ingestion_id), items))


@bp.delete("/ingestions/<ingestion:ingestion_id>")
@operation(
    tag="Control",
    scope=Scope.OPERATE,
    returns=(DeletedIds, DeletedMappings),
    raises=(IngestionNotFound, Conflict, StorageUnavailable),
)
def delete(ingestion_id: str) -> Response:
    """Delete a finished ingestion.

    Its items, results and idempotency key are gone at once, and its id is unknown from then on.
    Its starts still count for the rate proof. What is not finished has to be cancelled first.
    """
    return answer(render.deleted(the_service().operator.delete(ingestion_id, the_caller())))


@bp.get("/queue")
@operation(tag="Control", scope=Scope.READ, returns=(Queue,), conditional=True)
def show_queue() -> Response:
    """Look at the queue.

    What waits in each class, what is under way, the last 20 slots and the next 60.
    """
    return conditional(_queue())


@bp.post("/queue/pause")
@operation(
    tag="Control",
    scope=Scope.OPERATE,
    bodies=(PauseRequest,),
    body_required=False,
    returns=(Queue,),
    raises=(StorageUnavailable,),
)
def pause() -> Response:
    """Pause the queue.

    Nothing is started until it is resumed, also over restarts; batches under way end.
    """
    body = parse_body(PauseRequest, optional=True)
    the_service().operator.pause(body["reason"], the_caller())
    return _queue()


@bp.post("/queue/resume")
@operation(tag="Control", scope=Scope.OPERATE, returns=(Queue,), raises=(StorageUnavailable,))
def resume() -> Response:
    """Resume the queue.

    Goes on at the pace: slots that were not used are gone.
    """
    the_service().operator.resume(the_caller())
    return _queue()


@bp.patch("/queue")
@operation(
    tag="Control",
    scope=Scope.OPERATE,
    bodies=(IntervalRequest,),
    returns=(Queue,),
    raises=(StorageUnavailable,),
)
def set_interval() -> Response:
    """Change the interval.

    Counts from the last start, and holds over restarts until `INGEST_INTERVAL` itself is
    changed.
    """
    # The sum makes a minus zero a zero.
    seconds = parse_body(IntervalRequest)["interval_seconds"] + 0.0
    the_service().operator.set_interval(seconds, the_caller())
    return _queue()


@bp.get("/rate-proof")
@operation(
    tag="Control",
    scope=Scope.READ,
    query=PeriodQuery,
    returns=(RateProofReport,),
    raises=(StorageUnavailable,),
)
def show_rate_proof() -> Response:
    """Prove the rate.

    For the owner of the upstream: how many batches were started in a period, the smallest gap
    between two starts, and those that came too early, as recorded before each call.
    """
    period = parse_query(PeriodQuery)
    since, until = period.get("from"), period.get("to")
    proof = the_service().queries.rate_proof(since, until, the_caller())
    return answer(render.rate_proof(since, until, proof))


@bp.get("/audit")
@operation(
    tag="Control",
    scope=Scope.OPERATE,
    query=AuditQuery,
    returns=(AuditPage,),
    streams=AuditPage.streams,
    raises=(StorageUnavailable,),
)
def show_audit() -> Response:
    """Look up who did what.

    Submissions, cancellations, moves, retries, deletions, pauses, changes of the interval and of
    the keys, newest first, with the name of the key and the id of the request; as long as
    finished work is kept. `next_cursor` leads to the next page; it is null on the last one. As
    `ndjson` all of them come as a stream, and `limit` and `cursor` have no meaning.
    """
    query = parse_query(AuditQuery)
    audit_query, queries = query["entries"], the_service().queries
    if query["format"] == "ndjson":
        return streams.audit(
            queries.audit_stream(replace(audit_query, before=NEWEST), the_caller())
        )
    # One more tells whether there is another page.
    entries = queries.audit(replace(audit_query, limit=audit_query.limit + 1), the_caller())
    return answer(render.audit(entries[: audit_query.limit], more=len(entries) > audit_query.limit))


def _queue() -> Response:
    return answer(render.queue(the_service().queries.queue(the_caller())))
