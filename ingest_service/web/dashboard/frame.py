"""What all pages have in common: the bar at the top, the headers, how problems are shown."""

from typing import Any

from flask import Blueprint, Response, current_app, g, json, render_template, request

from ingest_service.domain.model import QueueState
from ingest_service.service.reports import QueueReport
from ingest_service.web import problems
from ingest_service.web.dashboard.words import verdict
from ingest_service.web.request import the_caller, the_service
from ingest_service.web.responses import conditional, timestamp

#: Nothing but our own files, no inline script or style, and in nobody's frame.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def blueprint(name: str, import_name: str) -> Blueprint:
    """Return a blueprint for pages; the problems of its views are pages as well."""
    bp = Blueprint(name, import_name, url_prefix="/dashboard", template_folder="templates")
    bp.after_request(_for_people)
    return bp


def page(template: str, status: int = 200, **values: Any) -> Response:
    """Return a page; one that is looked at again is only sent if it has changed."""
    queue: QueueReport = values.pop("queue", None) or the_service().queries.queue(the_caller())
    g.now = queue.health.at
    html = render_template(
        f"dashboard/{template}",
        queue=queue,
        verdict=verdict(queue.health),
        paused=queue.health.state is QueueState.PAUSED,
        upstream=current_app.config["UPSTREAM"],
        here=request.full_path.rstrip("?"),
        **values,
    )
    response = Response(html, status, mimetype="text/html")
    response.headers["Content-Security-Policy"] = CSP
    # A form is sent with its origin only under this policy; other sites learn nothing.
    response.headers["Referrer-Policy"] = "same-origin"
    # Scripts count from it: the clock of a browser may be wrong.
    response.headers["X-Now"] = timestamp(queue.health.at) or ""
    return conditional(response) if request.method == "GET" and status == 200 else response


def _for_people(response: Response) -> Response:
    if response.mimetype != problems.MEDIA_TYPE:
        return response
    shown = page("problem.html", response.status_code, problem=json.loads(response.get_data()))
    for name in ("Allow", "Retry-After"):
        if name in response.headers:
            shown.headers[name] = response.headers[name]
    return shown
