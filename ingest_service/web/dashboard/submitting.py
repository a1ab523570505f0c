"""Submitting by hand: paste, see the plan, send."""

import re
from itertools import islice
from typing import Any

from flask import Response, current_app, redirect, request, url_for
from marshmallow import ValidationError
from werkzeug.wrappers import Response as AnyResponse

from ingest_service.domain.items import Items
from ingest_service.domain.model import Priority
from ingest_service.keys.scope import Scope
from ingest_service.web import problems
from ingest_service.web.dashboard.frame import page
from ingest_service.web.dashboard.gate import blueprint, shows
from ingest_service.web.request import check_priority, read_values, the_caller, the_service
from ingest_service.web.request_schemas import load_submission
from ingest_service.web.strict_json import InvalidJson

bp = blueprint("dashboard_submitting", __name__)

_LISTED = 10
_WORD = re.compile(r"[^\s,;]+")


@bp.get("/submit")
@shows(Scope.SUBMIT)
def form() -> Response:
    """Return an empty form."""
    return _form("", Priority.MEDIUM.name)


@bp.post("/submit")
@shows(Scope.SUBMIT)
def submit() -> AnyResponse:
    """Show the plan for what was pasted, or send it."""
    # It may be as large as a request of the API.
    request.max_form_memory_size = current_app.config["BODY_LIMIT"]
    text, priority = _pasted(), request.form.get("priority", "")
    try:
        items, to = _read(text, priority)
    except (InvalidJson, ValidationError) as error:
        return _form(text, priority, errors=_listed(error))
    check_priority(to)
    if request.form.get("do") != "send":
        plan = the_service().submissions.plan(items, to, the_caller())
        return _form(text, priority, plan=plan, items=items)
    accepted = the_service().submissions.accept(items, to, caller=the_caller())
    return redirect(url_for("dashboard.ingestion", ingestion_id=accepted.ingestion_id), 303)


def _form(text: str, priority: str, **values: Any) -> Response:
    return page(
        "submit.html",
        # A script keeps what was pasted, so it need not travel back.
        text="" if request.form.get("echo") == "no" else text,
        chosen=priority,
        priorities=tuple(Priority),
        limit=current_app.config["ITEM_LIMIT"],
        **values,
    )


def _pasted() -> str:
    """Return what is in the field, or in the file if there is one."""
    file = request.files.get("file")
    content = file.read() if file else b""
    if not content:
        return request.form.get("items", "")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValidationError({"file": ["This is not a text in UTF-8."]}) from None


def _read(text: str, priority: str) -> tuple[Items, Priority]:
    """Return what `text` asks for: ids in any order and form, or a body of the API."""
    text = text.strip()
    is_json = text.startswith(("{", "["))
    config = current_app.config
    limit: int = config["ITEM_LIMIT"]
    payload: dict[str, Any] = _from_json(text, limit) if is_json else {"ids": _ids(text, limit)}
    payload["priority"] = priority
    return load_submission(payload, config["UNKNOWN_KEYS"], limit)


def _from_json(text: str, limit: int) -> dict[str, Any]:
    value = read_values(text.encode("utf-8", "surrogatepass"), limit)
    if isinstance(value, dict):
        return value
    mappings = bool(value) and all(isinstance(entry, dict) for entry in value)
    return {"mappings" if mappings else "ids": value}


def _ids(text: str, limit: int) -> list[int]:
    """Return the numbers in `text`, `limit` at most; a heading, as tables have it, is left out."""
    # With the heading, and one that is too many: all of them could take gigabytes.
    words = [word[0] for word in islice(_WORD.finditer(text), limit + 2)]
    if words and words[0].strip('"').lower() in ("id", "ids"):
        del words[0]
    if len(words) > limit:
        raise ValidationError({"items": [f"These are more than {limit} ids."]})
    if not words:
        raise ValidationError({"items": ["Paste at least one id."]})
    wrong = [word for word in words if not (word.isascii() and word.isdigit() and len(word) < 12)]
    if wrong:
        shown = ", ".join(f"“{word[:40]}”" for word in wrong[:_LISTED])
        more = f" and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
        raise ValidationError({"items": [f"Ids are whole numbers; these are none: {shown}{more}."]})
    return [int(word) for word in words]


def _listed(error: Exception) -> list[str]:
    if not isinstance(error, ValidationError):
        return [str(error)]
    messages = [(at.strip("/"), said) for at, said in problems.flatten("", error.messages) if said]
    return [
        f"{at}: {said}" if at and at != "items" else str(said)
        for at, said in messages[:_LISTED]
        if isinstance(said, str)
    ]
