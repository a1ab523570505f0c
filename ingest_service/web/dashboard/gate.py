"""Who sees a page: anybody where there are no keys, otherwise who has signed in with one."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from flask import Blueprint, Response, current_app, redirect, request, url_for
from werkzeug.exceptions import Forbidden
from werkzeug.wrappers import Response as AnyResponse

from ingest_service.keys.scope import Scope
from ingest_service.web import admission
from ingest_service.web.dashboard.frame import bare_page, for_people
from ingest_service.web.dashboard.sessions import COOKIE, LIFETIME, Sessions
from ingest_service.web.request import the_service
from ingest_service.web.scopes import KEY, needs

View = TypeVar("View", bound=Callable[..., Any])


def shows(scope: Scope) -> Callable[[View], View]:
    """Declare what a page asks of the key that somebody has signed in with.

    The door lets everybody pass to it: a browser sends no key, and who has not signed in is
    shown how to.
    """

    def attach(view: View) -> View:
        view.__shows__ = scope  # type: ignore[attr-defined]
        return needs(Scope.OPEN)(view)

    return attach


def check() -> Response | None:
    """Return the page to sign in for who has to, a problem for what is too often, else None."""
    view: Any = current_app.view_functions[request.endpoint or ""]
    sessions, scope = _sessions(), view.__shows__
    if sessions is None or scope is Scope.OPEN:
        return None
    key = sessions.key_of(request.cookies.get(COOKIE, ""), _now())
    if key is None:
        return bare_page("sign_in.html", 401, back=request.full_path.rstrip("?"))
    request.environ[KEY] = key
    if not key.may(scope):
        raise Forbidden(f"This asks for the scope `{scope}`, which this key does not have.")
    return admission.count(request.environ, sessions.keyring, key)


def blueprint(name: str, import_name: str) -> Blueprint:
    """Return a blueprint for pages, which not everybody may see; its problems are pages as well."""
    bp = Blueprint(name, import_name, url_prefix="/dashboard", template_folder="templates")
    bp.before_request(check)
    bp.after_request(for_people)
    return bp


bp = blueprint("dashboard_gate", __name__)


@bp.get("/sign-in")
@shows(Scope.OPEN)
def sign_in_form() -> Response:
    """Return the page to sign in."""
    return bare_page("sign_in.html", 200, back=url_for("dashboard.now"))


@bp.post("/sign-in")
@shows(Scope.OPEN)
def sign_in() -> AnyResponse:
    """Give a cookie for a key."""
    sessions, back = _sessions(), local(request.form.get("back", ""))
    if sessions is None:
        return redirect(back, 303)
    if not sessions.may_try(request.remote_addr or "", _now()):
        refusal = bare_page(
            "sign_in.html", 429, back=back, refused="That was too often. Wait a minute."
        )
        refusal.headers["Retry-After"] = "60"
        return refusal
    cookie = sessions.begin(request.form.get("key", "").strip(), _now())
    if cookie is None:
        return bare_page(
            "sign_in.html", 401, back=back, refused="This is not a key that is in force."
        )
    response = redirect(back, 303)
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=LIFETIME,
        path="/dashboard",
        httponly=True,
        samesite="Strict",
        secure=request.is_secure,
    )
    return response


@bp.post("/sign-out")
@shows(Scope.OPEN)
def sign_out() -> AnyResponse:
    """Take the cookie away."""
    response = redirect(url_for("dashboard_gate.sign_in_form"), 303)
    response.delete_cookie(COOKIE, path="/dashboard", httponly=True, samesite="Strict")
    return response


def local(address: str) -> str:
    """Return `address` if it is one of these pages, otherwise the first of them."""
    if re.fullmatch(r"/dashboard([/?][!-~]*)?", address) and "\\" not in address:
        return address
    return url_for("dashboard.now")


def _sessions() -> Sessions | None:
    sessions: Sessions | None = current_app.extensions["dashboard_sessions"]
    return sessions


def _now() -> datetime:
    return the_service().queries.health().at
