"""What is changed by hand; what cannot be taken back is shown before it is done."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from flask import Response, redirect, request, url_for
from marshmallow import RAISE, ValidationError
from werkzeug.wrappers import Response as AnyResponse

from ingest_service.domain.ingestion import IngestionSnapshot
from ingest_service.domain.model import OutcomeWord, Priority
from ingest_service.errors import (
    Conflict,
    IngestionNotFound,
    QueueFull,
    QuotaFull,
    StorageUnavailable,
)
from ingest_service.keys.scope import Scope
from ingest_service.service.reports import MoveReport
from ingest_service.web.dashboard.formats import count, span
from ingest_service.web.dashboard.frame import page
from ingest_service.web.dashboard.gate import blueprint, local, shows
from ingest_service.web.request import check_priority, the_caller, the_service
from ingest_service.web.request_schemas import MAX_INTERVAL, PauseRequest, load

bp = blueprint("dashboard_controls", __name__)

#: How many ingestions are changed at once; each move is a walk through the queue.
MAX_CHOSEN = 200


@dataclass(frozen=True, slots=True)
class Effect:
    """What would become of one ingestion, or what has."""

    ingestion_id: str
    words: str
    #: Whether anything changes.
    applies: bool
    move: MoveReport | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """Something that is done to ingestions."""

    #: As in `Move 3 ingestions to HIGH`, and when it is done.
    verb: str
    done: str
    preview: Callable[[str], Effect]
    apply: Callable[[str], str]
    where: str = ""


@bp.post("/pause")
@shows(Scope.OPERATE)
def pause() -> AnyResponse:
    """Start nothing from now on."""
    body = load(PauseRequest, {"reason": request.form.get("reason", "").strip()}, RAISE)
    the_service().operator.pause(body["reason"], the_caller())
    return _back()


@bp.post("/resume")
@shows(Scope.OPERATE)
def resume() -> AnyResponse:
    """Go on at the pace."""
    the_service().operator.resume(the_caller())
    return _back()


@bp.post("/interval")
@shows(Scope.OPERATE)
def set_interval() -> AnyResponse:
    """Change the pace."""
    text = request.form.get("seconds", "").strip()
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?", text) or float(text) > MAX_INTERVAL:
        raise ValidationError({"seconds": [f"This must be a number from 0 to {MAX_INTERVAL}."]})
    the_service().operator.set_interval(float(text), the_caller())
    return _back()


@bp.post("/confirm")
@shows(Scope.OPERATE)
def confirm() -> Response:
    """Show what an action would do to what was chosen, and change nothing."""
    action, chosen = _action(), _chosen()
    return page(
        "confirm.html",
        action=action,
        effects=[_attempt(action.preview, ingestion_id) for ingestion_id in chosen],
        form={name: request.form.get(name, "") for name in ("action", "priority")},
        back=local(request.form.get("back", "")),
    )


@bp.post("/act")
@shows(Scope.OPERATE)
def act() -> AnyResponse:
    """Do what was confirmed."""
    action, chosen = _action(), _chosen()

    def apply(ingestion_id: str) -> Effect:
        return Effect(ingestion_id, action.apply(ingestion_id), applies=True)

    effects = [_attempt(apply, ingestion_id) for ingestion_id in chosen]
    if len(effects) == 1 and effects[0].applies:
        return redirect(url_for("dashboard.ingestion", ingestion_id=chosen[0]), 303)
    return page(
        "done.html",
        action=action,
        effects=effects,
        back=local(request.form.get("back", "")),
    )


def _action() -> Action:
    name = request.form.get("action", "")
    if name == "cancel":
        return Action("Cancel", "cancelled", _preview_cancel, _cancel)
    if name == "retry":
        return Action("Retry", "queued once more", _preview_retry, _retry)
    if name == "move":
        priority = request.form.get("priority", "")
        if priority not in Priority.__members__:
            raise ValidationError({"priority": ["Choose the class to move to."]})
        to = Priority[priority]
        check_priority(to)
        return Action(
            "Move",
            f"moved to {to.name}",
            lambda ingestion_id: _preview_move(ingestion_id, to),
            lambda ingestion_id: _move(ingestion_id, to),
            f" to {to.name}",
        )
    raise ValidationError({"action": ["Choose what to do."]})


def _chosen() -> list[str]:
    chosen = list(dict.fromkeys(text.lower() for text in request.form.getlist("id")))
    if not 1 <= len(chosen) <= MAX_CHOSEN:
        raise ValidationError({"id": [f"Choose from 1 to {MAX_CHOSEN} ingestions."]})
    return chosen


def _attempt(do: Callable[[str], Effect], ingestion_id: str) -> Effect:
    try:
        return do(ingestion_id)
    except Conflict as error:
        return Effect(ingestion_id, str(error), applies=False)
    except IngestionNotFound:
        return Effect(ingestion_id, "Nobody knows it (any more).", applies=False)
    except (QueueFull, QuotaFull, StorageUnavailable) as error:
        return Effect(ingestion_id, str(error), applies=False)


def _preview_cancel(ingestion_id: str) -> Effect:
    snapshot = _snapshot(ingestion_id)
    counts = snapshot.counts
    if counts.outcome is not None:
        raise Conflict(f"It is finished: {counts.outcome}.")
    ends = f"; {count(counts.in_flight, 'item')} under way will end" if counts.in_flight else ""
    text = f"{count(counts.queued, 'item')} of {counts.total} will never be sent{ends}."
    return Effect(ingestion_id, text, applies=bool(counts.queued))


def _cancel(ingestion_id: str) -> str:
    cancelled = the_service().operator.cancel(ingestion_id, the_caller()).counts.cancelled
    return f"{count(cancelled, 'item')} will never be sent."


def _preview_retry(ingestion_id: str) -> Effect:
    counts = _snapshot(ingestion_id).counts
    if counts.outcome is OutcomeWord.CANCELLED:
        raise Conflict("A cancelled ingestion is not tried again.")
    if not counts.failed:
        raise Conflict("Nothing of it has failed.")
    text = f"{count(counts.failed, 'failed item')} will be sent once more, in the old place."
    return Effect(ingestion_id, text, applies=True)


def _retry(ingestion_id: str) -> str:
    items = the_service().operator.retry(ingestion_id, the_caller())
    return f"{count(items, 'item')} will be sent once more."


def _preview_move(ingestion_id: str, to: Priority) -> Effect:
    snapshot = _snapshot(ingestion_id)
    if snapshot.priority is to and snapshot.counts.outcome is None:
        raise Conflict(f"Its class is {to.name} already.")
    report = the_service().operator.move(ingestion_id, to, the_caller(), dry_run=True)
    return Effect(ingestion_id, _cost(report), applies=True, move=report)


def _move(ingestion_id: str, to: Priority) -> str:
    return _cost(the_service().operator.move(ingestion_id, to, the_caller()))


def _cost(report: MoveReport) -> str:
    """Return what a move means for the others."""
    if not report.delayed:
        return "No other ingestion ends later."
    others = count(report.delayed, "other ingestion")
    return f"{others} will end later, by {span(report.longest_delay)} at most."


def _snapshot(ingestion_id: str) -> IngestionSnapshot:
    return the_service().queries.status(ingestion_id, caller=the_caller())


def _back() -> AnyResponse:
    return redirect(local(request.form.get("back", "")), 303)
