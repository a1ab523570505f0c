"""What is looked at: the queue now, the list of ingestions, one ingestion."""

import shlex
from pathlib import Path
from typing import Any

from flask import Response, current_app, redirect, request, url_for
from marshmallow import fields, validate
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from ingest_service.domain.ingestion import IngestionSnapshot
from ingest_service.domain.model import ItemState, OutcomeWord, Priority
from ingest_service.engines import ListQuery, Result
from ingest_service.keys.scope import Scope
from ingest_service.web import streams
from ingest_service.web.control import show_rate_proof
from ingest_service.web.dashboard import words
from ingest_service.web.dashboard.charts import PERIODS
from ingest_service.web.dashboard.frame import page
from ingest_service.web.dashboard.gate import blueprint, shows
from ingest_service.web.dashboard.looking_back import LookingBack
from ingest_service.web.query_schemas import (
    IngestionsQuery,
    QuerySchema,
    ShownWord,
    WholeNumber,
    cursor,
    load_query,
)
from ingest_service.web.request import parse_query, the_caller, the_service
from ingest_service.web.responses import file

bp = blueprint("dashboard", __name__)

#: How many unfinished ingestions the first page shows.
SHOWN = 12
#: By how many rows the list grows; where it is that long, it goes on on another page.
ROWS = 50
MOST_ROWS = 100
#: Batches at a glance, and items a page.
BATCHES = 1_000
ITEMS = 50
_NEWEST = load_query(IngestionsQuery, {})["cursor"]
_STATES = {
    "": (ItemState.SUCCEEDED, ItemState.FAILED),
    "succeeded": (ItemState.SUCCEEDED,),
    "failed": (ItemState.FAILED,),
}


class NowQuery(QuerySchema):
    """Which period the charts show."""

    range = fields.String(load_default="1h", validate=validate.OneOf(tuple(PERIODS)))


class RowsQuery(IngestionsQuery):
    """Which ingestions; a form sends what was not chosen as well, as nothing."""

    show = fields.String(load_default="", validate=validate.OneOf(("", "unfinished")))
    rows = WholeNumber(load_default=ROWS, validate=validate.Range(1, MOST_ROWS))


class OneQuery(QuerySchema):
    """Which part of an ingestion."""

    #: The first batch at a glance, the first item of the list.
    batches = WholeNumber(load_default=0, validate=validate.Range(0, 10**12))
    items = WholeNumber(load_default=0, validate=validate.Range(0, 10**12))
    outcome = fields.String(load_default="", validate=validate.OneOf(tuple(_STATES)))
    #: Only the items of this batch, from 1.
    batch = WholeNumber(validate=validate.Range(1, 10**12))


@bp.get("")
@shows(Scope.READ)
def now() -> Response:
    """Return what happens at this moment."""
    query = parse_query(NowQuery)
    queries = the_service().queries
    queue = queries.queue(the_caller())
    caller = the_caller()
    snapshots = queries.ingestions(ListQuery(_NEWEST, SHOWN, unfinished=True), caller)
    # Where nothing waits, what was last done is of interest.
    latest = [] if snapshots else queries.ingestions(ListQuery(_NEWEST, 5), caller)
    past: LookingBack = current_app.extensions["looking_back"]
    return page(
        "now.html",
        queue=queue,
        taken=[(slot, words.mark(slot)) for slot in queue.taken],
        rows=_rows(snapshots or latest),
        unfinished=bool(snapshots),
        example=_example_command(),
        range=query["range"],
        periods=PERIODS,
        charts=past.charts(query["range"], queue.health.at),
        today=past.today(queue.health.at),
    )


@bp.get("/ingestions")
@shows(Scope.READ)
def ingestions() -> Response:
    """Return a page of the list of ingestions."""
    chosen = {name: value for name, value in request.args.items() if value}
    query = load_query(RowsQuery, chosen)
    snapshots = the_service().queries.ingestions(
        ListQuery(
            query["cursor"],
            query["rows"] + 1,
            query.get("status"),
            query.get("outcome"),
            query.get("priority"),
            query.get("submitted_by"),
            unfinished=query["show"] == "unfinished",
        ),
        the_caller(),
    )
    filters = {name: chosen[name] for name in _FILTERS if name in chosen}
    shown, left = snapshots[: query["rows"]], snapshots[query["rows"] :]
    return page(
        "ingestions.html",
        rows=_rows(shown),
        filters=filters,
        first="cursor" not in chosen,
        more=_more(shown, chosen, query["rows"]) if left else None,
        status_words=ShownWord.words,
        outcomes=tuple(OutcomeWord),
        priorities=tuple(Priority),
        example=_example_command(),
    )


@bp.get("/ingestions/<ingestion:ingestion_id>")
@shows(Scope.READ)
def ingestion(ingestion_id: str) -> Response:
    """Return one ingestion: how far it is, why it waits, what became of its items."""
    query = load_query(OneQuery, {name: value for name, value in request.args.items() if value})
    queries = the_service().queries
    first = query["batches"] - query["batches"] % BATCHES
    snapshot = queries.status(ingestion_id, first, BATCHES, the_caller())
    items, more = _items(snapshot, query)
    return page(
        "ingestion.html",
        row=words.row(snapshot, queries.estimate(ingestion_id)),
        first=first,
        marks=list(enumerate(words.batch_marks(snapshot), first + 1)),
        batches_shown=BATCHES,
        query=query,
        items=items,
        items_shown=ITEMS,
        more=more,
        priorities=tuple(Priority),
        waiting=_curl(f"status/{ingestion_id}?wait=30"),
        # Without the first, what is downloaded could be a problem.
        downloading=_curl(f"status/{ingestion_id}/results?format=csv", f"-f -o {ingestion_id}.csv"),
        legend=tuple(words.BATCH_MARKS.values()),
    )


@bp.get("/ingestions/<ingestion:ingestion_id>/results.<any('csv', 'ndjson'):form>")
@shows(Scope.READ)
def download(ingestion_id: str, form: str) -> Response:
    """Return all results; the same as the API's, for whom a cookie stands in for a key."""
    return streams.stream(
        form, *the_service().queries.stream(ingestion_id, _STATES[""], the_caller())
    )


@bp.get("/rate-proof")
@shows(Scope.READ)
def rate_proof() -> Response:
    """Return the proof of the rate, as `download` returns results."""
    return show_rate_proof()


@bp.get("/find")
@shows(Scope.READ)
def find() -> AnyResponse:
    """Lead to the ingestion whose id somebody has typed."""
    ingestion_id = request.args.get("id", "").strip()
    if not ingestion_id or "/" in ingestion_id:
        raise NotFound("Type the whole id of an ingestion.")
    return redirect(url_for("dashboard.ingestion", ingestion_id=ingestion_id), 303)


@bp.get("/static/<name>")
@shows(Scope.OPEN)
def asset(name: str) -> Response:
    """Return a file of our own; whether it is still the same is asked every time."""
    return file(Path(__file__).with_name("static"), name, max_age=0)


@bp.route("/<path:_>")
@shows(Scope.OPEN)
def nowhere(_: str) -> Response:
    """Say for people that there is no such page."""
    raise NotFound("There is no such page.")


_FILTERS = ("show", "status", "outcome", "priority", "submitted_by")


def _example_command() -> str:
    """Return what submits three ids, as a line for a shell."""
    body = """'{"ids": [1, 2, 3], "priority": "HIGH"}'"""
    return _curl("ingest", f"-H 'Content-Type: application/json' -d {body}")


def _curl(path: str, options: str = "") -> str:
    """Return what asks the API for `path`, as a line for a shell."""
    keys_needed = current_app.extensions["keyring"] is not None
    key = '-H "Authorization: Bearer $INGEST_KEY"' if keys_needed else ""
    address = shlex.quote(f"{request.host_url}{path}")
    return " ".join(part for part in ("curl", key, options, address) if part)


def _more(shown: list[IngestionSnapshot], chosen: dict[str, str], rows: int) -> str:
    """Return where there is more: in a longer list, or on a page that begins behind this one."""
    last = shown[-1]
    if rows < MOST_ROWS:
        changed = {"rows": str(min(rows + ROWS, MOST_ROWS))}
    else:
        changed = {"cursor": cursor(last.sequence), "rows": str(ROWS)}
    anchor = f"row-{last.ingestion_id}" if rows < MOST_ROWS else None
    kept = {name: chosen[name] for name in (*_FILTERS, "cursor") if name in chosen}
    values: dict[str, Any] = kept | changed
    return url_for("dashboard.ingestions", _anchor=anchor, **values)


def _rows(snapshots: list[IngestionSnapshot]) -> list[words.Row]:
    estimate = the_service().queries.estimate
    return [
        words.row(snapshot, None if snapshot.finished_at else estimate(snapshot.ingestion_id))
        for snapshot in snapshots
    ]


def _items(snapshot: IngestionSnapshot, query: dict[str, Any]) -> tuple[list[Result], bool]:
    """Return a page of results, and whether there are more."""
    after, limit, skip = -1, ITEMS + 1, query["items"]
    if "batch" in query:
        # They are not more than a batch has.
        after, limit = (query["batch"] - 1) * snapshot.batch_size - 1, snapshot.batch_size
    results = the_service().queries.results
    states = _STATES[query["outcome"]]
    _, page = results(snapshot.ingestion_id, states, skip, limit, the_caller(), after=after)
    if "batch" in query:
        return [result for result in page if result.position <= after + snapshot.batch_size], False
    return page[:ITEMS], len(page) > ITEMS
