"""What all pages have in common: the bar at the top, the headers, how problems are shown."""

from typing import Any

from flask import Response, current_app, g, json, request

from ingest_service.domain.model import QueueState
from ingest_service.keys.scope import Scope
from ingest_service.service.reports import QueueReport
from ingest_service.web import problems
from ingest_service.web.dashboard.words import verdict
from ingest_service.web.request import the_caller, the_key, the_service
from ingest_service.web.responses import conditional, timestamp

#: Nothing but our own files, no inline script or style, and in nobody's frame.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def may(scope: Scope) -> bool:
    """Tell whether whoever looks may do what asks for `scope`; without keys, anybody may."""
    if current_app.extensions["keyring"] is None:
        return True
    key = the_key()
    return key is not None and key.may(scope)


def page(template: str, status: int = 200, **values: Any) -> Response:
    """Return a page; one that is looked at again is only sent if it has changed."""
    queue: QueueReport = values.pop("queue", None) or the_service().queries.queue(the_caller())
    key = the_key()
    response = bare_page(
        template,
        status,
        queue=queue,
        verdict=verdict(queue.health),
        paused=queue.health.state is QueueState.PAUSED,
        upstream=current_app.config["UPSTREAM"],
        here=request.full_path.rstrip("?"),
        key=key,
        may_operate=may(Scope.OPERATE),
        # The queue as a whole is everybody's.
        may_pause=may(Scope.OPERATE) and not (key and key.own_only),
        may_submit=may(Scope.SUBMIT),
        **values,
    )
    return conditional(response) if request.method == "GET" and status == 200 else response


def bare_page(template: str, status: int, **values: Any) -> Response:
    """Return a page that needs not tell anything about the queue."""
    g.now = the_service().queries.health().at
    html = _rendered(f"dashboard/{template}", values)
    response = Response(html, status, mimetype="text/html")
    response.headers["Content-Security-Policy"] = CSP
    # A form is sent with its origin only under this policy; other sites learn nothing.
    response.headers["Referrer-Policy"] = "same-origin"
    # Scripts count from it: the clock of a browser may be wrong.
    response.headers["X-Now"] = timestamp(g.now) or ""
    response.vary.add("Cookie")
    return response


def _rendered(template: str, values: dict[str, Any]) -> str:
    """Return what `flask.render_template` does; nothing of `values` is kept.

    A macro that uses what is around it holds all of that, and is part of it: together they
    would stay, with an ingestion of a million ids and the request, see `tracebacks.let_go`.
    """
    current_app.update_template_context(values)
    loaded = current_app.jinja_env.get_template(template)
    context = loaded.new_context(values)
    try:
        return "".join(loaded.root_render_func(context))
    finally:
        context.vars.clear()


def for_people(response: Response) -> Response:
    """Return a page that shows a problem, if `response` is one."""
    if response.mimetype != problems.MEDIA_TYPE:
        return response
    show = page if may(Scope.READ) else bare_page
    template = "problem.html" if show is page else "problem_alone.html"
    shown = show(template, response.status_code, problem=json.loads(response.get_data()))
    for name in ("Allow", "Retry-After"):
        if name in response.headers:
            shown.headers[name] = response.headers[name]
    return shown
