"""The documentation, served by the service itself: no internet needed."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import flask_swagger_ui
from flask import Blueprint, Flask, Response, current_app, render_template
from markupsafe import Markup, escape
from werkzeug.exceptions import NotFound

from ingest_service.keys.scope import Scope
from ingest_service.web.openapi import Contract, build_document, operation
from ingest_service.web.ops_schemas import Document, ProblemPage
from ingest_service.web.problems import PROBLEMS
from ingest_service.web.responses import answer, file
from ingest_service.web.scopes import needs

bp = Blueprint("docs", __name__, template_folder="templates")

_PROBLEM_PAGE = ProblemPage()
_SWAGGER_UI = Path(flask_swagger_ui.__file__).with_name("dist")
_CSP = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; base-uri 'none'"


def init_app(app: Flask) -> None:
    """Serve the documentation of the routes that `app` has by the time it is asked for."""
    app.register_blueprint(bp)
    for template_filter in (_marked, _json, _constraints):
        app.add_template_filter(template_filter)
    contract = Contract(
        item_limit=app.config["ITEM_LIMIT"],
        validation_status=app.config["VALIDATION_STATUS"],
        unknown=app.config["UNKNOWN_KEYS"],
        keys_needed=app.extensions["keyring"] is not None,
    )
    app.extensions["openapi"] = cache(lambda: build_document(app, contract))


@bp.get("/openapi.json")
@operation(tag="Documentation", scope=Scope.OPEN, returns=(Document,))
def openapi() -> Response:
    """Return this document.

    The OpenAPI document; `/docs` and `/redoc` show it to people.
    """
    return answer(_document())


@bp.get("/docs")
@needs(Scope.OPEN)
def swagger_ui() -> Response:
    """Return the interactive documentation."""
    return _page(render_template("swagger_ui.html"))


@bp.get("/docs/<any('swagger-ui.css', 'swagger-ui-bundle.js', 'favicon-32x32.png'):name>")
@needs(Scope.OPEN)
def swagger_ui_asset(name: str) -> Response:
    """Return a file of the installed Swagger UI."""
    return _asset(_SWAGGER_UI, name)


@bp.get("/static/<name>")
@needs(Scope.OPEN)
def static_asset(name: str) -> Response:
    """Return a file of our own."""
    return _asset(Path(__file__).with_name("static"), name)


@bp.get("/redoc")
@needs(Scope.OPEN)
def reference() -> Response:
    """Return the documentation as one page to read, without scripts."""
    document = _document()
    by_tag: dict[str, list[Any]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            by_tag[described["tags"][0]].append((method, path, described))
    return _page(
        render_template(
            "reference.html", document=document, by_tag=by_tag, problems=PROBLEMS.values()
        )
    )


@bp.get("/problems/<slug>")
@operation(tag="Documentation", scope=Scope.OPEN, returns=(ProblemPage,), raises=(NotFound,))
def explain(slug: str) -> Response:
    """Explain a kind of problem.

    The `type` of every error is the address of its explanation.
    """
    if slug not in PROBLEMS:
        raise NotFound(f"There is no such problem; known are {', '.join(PROBLEMS)}.")
    kind = PROBLEMS[slug]
    return answer(_PROBLEM_PAGE.dump(kind))


def _document() -> dict[str, Any]:
    document: dict[str, Any] = current_app.extensions["openapi"]()
    return document


def _marked(text: str) -> Markup:
    """Return `text`, escaped, with what is between backticks as code."""
    marked = re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(marked)  # noqa: S704 # nosec B704


def _json(value: Any) -> str:
    """Return `value` as text, with the keys in the order in which they are answered."""
    return json.dumps(value, indent=2)


def _constraints(schema: dict[str, Any]) -> str:
    """Return in one line what `schema` allows."""
    return ", ".join(
        f"{key} {' | '.join(value) if isinstance(value, list) else value}"
        for key, value in schema.items()
        if key != "description"
    )


def _page(html: str) -> Response:
    response = Response(html, mimetype="text/html")
    response.headers["Content-Security-Policy"] = _CSP
    return response


def _asset(folder: Path, name: str) -> Response:
    return file(folder, name, max_age=86_400)
