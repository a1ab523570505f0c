"""Following what was submitted: status, results, lists."""

import hashlib
import math
from typing import Any, cast

from flask import Blueprint, Response, request

from ingest_service.domain.ingestion import IngestionSnapshot
from ingest_service.domain.model import FAMILIES, ItemState, OutcomeWord
from ingest_service.engines import ListQuery
from ingest_service.errors import IngestionNotFound, StorageUnavailable
from ingest_service.keys.scope import Scope
from ingest_service.service.reports import Estimate
from ingest_service.web import render, streams
from ingest_service.web.control_schemas import IngestionList
from ingest_service.web.held_back import HELD_BACK, Change, HeldBack
from ingest_service.web.openapi import operation
from ingest_service.web.query_schemas import (
    FindQuery,
    IngestionsQuery,
    ResultsQuery,
    StatusQuery,
)
from ingest_service.web.request import parse_body, parse_query, the_caller, the_service
from ingest_service.web.request_schemas import FindRequest
from ingest_service.web.response_schemas import (
    IdsResults,
    IdsStatus,
    MappingsResults,
    MappingsStatus,
)
from ingest_service.web.responses import JsonResponse, answer, conditional, to_json, unless_known

bp = Blueprint("status", __name__)

_OUTCOMES = {
    OutcomeWord.SUCCEEDED: ItemState.SUCCEEDED,
    OutcomeWord.FAILED: ItemState.FAILED,
}
_STATUS = (IdsStatus, MappingsStatus)
_READING = (IngestionNotFound, StorageUnavailable)


@bp.get("/status/<ingestion:ingestion_id>")
@operation(
    tag="Ingestions",
    scope=Scope.READ,
    query=StatusQuery,
    returns=_STATUS,
    sends=("Retry-After",),
    conditional=True,
    raises=_READING,
)
def show(ingestion_id: str) -> Response:
    """Follow an ingestion.

    The state of an ingestion and of its batches, at most 10,000 batches an answer; while it is
    unfinished also its place in the queue, when it will be finished and why it waits. With
    `wait` the answer comes at the first change.
    """
    return _follow(ingestion_id, parse_query(StatusQuery))


def _follow(ingestion_id: str, query: dict[str, Any]) -> Response:
    page, queries = (query["offset"], query["limit"], the_caller()), the_service().queries
    snapshot, response = queries.status(ingestion_id, *page), None
    if query["wait"] and snapshot.finished_at is None:
        if request.if_none_match:
            response = _status(snapshot, queries.estimate(ingestion_id))
        if response is None or not _is_news(response):
            held: HeldBack | None = request.environ.get(HELD_BACK)
            if held is None:
                queries.await_change(snapshot, query["wait"])
                snapshot, response = queries.status(ingestion_id, *page), None
            elif held.until(Change(snapshot.ingestion_id, snapshot.version, query["wait"])):
                # Nobody sees this one.
                return JsonResponse(b"")
    if response is None:
        response = _status(snapshot, queries.estimate(ingestion_id))
    if "HTTP_IF_NONE_MATCH" in request.environ:
        unless_known(response)
    return response


@bp.get("/status")
@operation(
    tag="Ingestions",
    scope=Scope.READ,
    query=FindQuery,
    bodies=(FindRequest,),
    body_required=False,
    returns=_STATUS,
    sends=("Retry-After",),
    conditional=True,
    raises=_READING,
)
def find() -> Response:
    """Follow an ingestion, named in the query string or in a body.

    The same as `GET /status/{ingestion_id}`; the body is looked at if the query names none.
    """
    query = parse_query(FindQuery)
    ingestion_id = _named(query)
    if ingestion_id is None:
        # A body that names none either is not valid.
        ingestion_id = cast(str, _named(parse_body(FindRequest, optional=True)))
    return _follow(ingestion_id.lower(), query)


def _named(values: dict[str, Any]) -> str | None:
    """Return the id among `values`, under either family's name."""
    names = (family.id_key for family in FAMILIES.values())
    return next((values[name] for name in names if values.get(name) is not None), None)


@bp.get("/status/<ingestion:ingestion_id>/results")
@operation(
    tag="Ingestions",
    scope=Scope.READ,
    query=ResultsQuery,
    returns=(IdsResults, MappingsResults),
    streams=IdsResults.streams,
    raises=_READING,
)
def show_results(ingestion_id: str) -> Response:
    """Fetch the results.

    What became of the items, in their order; what is settled so far while it runs. As `ndjson`
    or `csv` all of them come as a stream, and `offset` and `limit` have no meaning.
    """
    query = parse_query(ResultsQuery)
    states = [_OUTCOMES[query["outcome"]]] if "outcome" in query else list(_OUTCOMES.values())
    if query["format"] != "json":
        pages = the_service().queries.stream(ingestion_id, states, the_caller())
        return streams.stream(query["format"], *pages)
    page = the_service().queries.results(
        ingestion_id, states, query["offset"], query["limit"], the_caller()
    )
    return answer(render.results(*page))


@bp.get("/ingestions")
@operation(
    tag="Ingestions",
    scope=Scope.READ,
    query=IngestionsQuery,
    returns=(IngestionList,),
    conditional=True,
    raises=(StorageUnavailable,),
)
def show_ingestions() -> Response:
    """List ingestions.

    Newest first. `next_cursor` leads to the next page; it is null on the last one.
    """
    query = parse_query(IngestionsQuery)
    limit = query["limit"]
    # One more tells whether there is another page.
    snapshots = the_service().queries.ingestions(
        ListQuery(
            query["cursor"],
            limit + 1,
            query.get("status"),
            query.get("outcome"),
            query.get("priority"),
            query.get("submitted_by"),
        ),
        the_caller(),
    )
    page = render.ingestions(snapshots[:limit], more=len(snapshots) > limit)
    return conditional(answer(page))


def _status(snapshot: IngestionSnapshot, estimate: Estimate | None) -> Response:
    body = to_json(render.status(snapshot, estimate))
    headers = {
        "ETag": f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"',
        "Cache-Control": "no-cache",
    }
    if estimate is not None:
        headers["Retry-After"] = str(max(1, math.ceil(estimate.changes_in)))
    return JsonResponse(body, headers=headers)


def _is_news(response: Response) -> bool:
    """Tell whether the client has said what it knows, and that is not how it is any more."""
    etags = request.if_none_match
    etag, _ = response.get_etag()
    return bool(etags) and etag is not None and not etags.contains_weak(etag)
