"""Following what was submitted: status, results, lists."""

import hashlib
import math

from flask import Blueprint, Response, request

from ingest_service.domain.model import ItemState
from ingest_service.engines.embedded.store import Snapshot
from ingest_service.web import answers, render, streams
from ingest_service.web.openapi import operation
from ingest_service.web.request import the_service
from ingest_service.web.request_schemas import (
    FindQuery,
    IngestionsQuery,
    ResultsQuery,
    StatusQuery,
    parse_query,
)
from ingest_service.web.responses import answer, to_json

bp = Blueprint("status", __name__)

_OUTCOMES = {"succeeded": ItemState.SUCCEEDED, "failed": ItemState.FAILED}
_IF_NONE_MATCH = {
    "If-None-Match": (
        "The `ETag` of an earlier answer; if it still holds there is no new one (304).",
        {"type": "string"},
    )
}
_STATUS = {200: answers.STATUS, 304: answers.NOT_MODIFIED}


@bp.get("/status/<ingestion_id>")
@operation(
    "Follow an ingestion",
    "The state of an ingestion and of its batches, at most 10,000 batches an answer; while it is "
    "unfinished also its place in the queue, when it will be finished and why it waits. With "
    "`wait` the answer comes at the first change.",
    tag="Ingestions",
    query=StatusQuery,
    headers=_IF_NONE_MATCH,
    answers=_STATUS,
    problems=("validation-error", "not-found"),
)
def show(ingestion_id: str) -> Response:
    """Tell where an ingestion is."""
    query = parse_query(StatusQuery, request.args)
    page = query["offset"], query["limit"]
    snapshot = the_service().status(ingestion_id, *page)
    made = _status(snapshot)
    if query["wait"] and not _is_news(made):
        the_service().await_change(snapshot, query["wait"])
        made = _status(the_service().status(ingestion_id, *page))
    made.make_conditional(request)
    return made


@bp.get("/status")
@operation(
    "Follow an ingestion, named in the query string",
    "The same as `GET /status/{ingestion_id}`.",
    tag="Ingestions",
    query=FindQuery,
    headers=_IF_NONE_MATCH,
    answers=_STATUS,
    problems=("validation-error", "not-found"),
)
def find() -> Response:
    """Tell where the ingestion named in the query string is."""
    return show(parse_query(FindQuery, request.args)["ingestion_id"])


@bp.get("/status/<ingestion_id>/results")
@operation(
    "Fetch the results",
    "What became of the items, in their order; what is settled so far while it runs. As `ndjson` "
    "or `csv` all of them come as a stream, and `offset` and `limit` have no meaning.",
    tag="Ingestions",
    query=ResultsQuery,
    answers={200: answers.RESULTS},
    problems=("validation-error", "not-found"),
)
def show_results(ingestion_id: str) -> Response:
    """Tell what became of the items."""
    query = parse_query(ResultsQuery, request.args)
    wanted = [_OUTCOMES[query["outcome"]]] if "outcome" in query else list(_OUTCOMES.values())
    if query["format"] != "json":
        return streams.stream(query["format"], *the_service().stream(ingestion_id, wanted))
    found = the_service().results(ingestion_id, wanted, query["offset"], query["limit"])
    return answer(render.results(*found))


@bp.get("/ingestions")
@operation(
    "List ingestions",
    "Newest first. `next_cursor` leads to the next page; it is null on the last one.",
    tag="Ingestions",
    query=IngestionsQuery,
    answers={200: answers.INGESTIONS},
    problems=("validation-error",),
)
def show_ingestions() -> Response:
    """List ingestions."""
    query = parse_query(IngestionsQuery, request.args)
    limit = query["limit"]
    # One more tells whether there is another page.
    found = the_service().ingestions(
        query["cursor"], limit + 1, query.get("status"), query.get("priority")
    )
    return answer(render.ingestions(found[:limit], more=len(found) > limit))


def _status(snapshot: Snapshot) -> Response:
    prospects = the_service().prospects(snapshot.ingestion_id)
    body = to_json(render.status(snapshot, prospects))
    made = Response(body, mimetype="application/json")
    made.set_etag(hashlib.blake2b(body, digest_size=16).hexdigest())
    made.headers["Cache-Control"] = "no-cache"
    if prospects is not None:
        made.headers["Retry-After"] = str(max(1, math.ceil(prospects.changes_in)))
    return made


def _is_news(made: Response) -> bool:
    """Tell whether the client has said what it knows, and that is not how it is any more."""
    known = request.if_none_match
    etag, _ = made.get_etag()
    return bool(known) and etag is not None and not known.contains_weak(etag)
