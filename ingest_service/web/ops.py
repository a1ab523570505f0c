"""The routes around it: is it there, is it well."""

from flask import Blueprint, Response, current_app

from ingest_service.errors import Stopping, StorageUnavailable
from ingest_service.keys.keyring import Keyring
from ingest_service.keys.scope import Scope
from ingest_service.version import VERSION
from ingest_service.web.openapi import operation
from ingest_service.web.ops_schemas import GREETING, HealthReport, Live, Liveness, Readiness
from ingest_service.web.request import the_service
from ingest_service.web.responses import answer

bp = Blueprint("ops", __name__)

_HEALTH_REPORT = HealthReport()


@bp.get("/")
@operation(tag="Operation", scope=Scope.OPEN, returns=(Live,))
def index() -> Response:
    """Greet.

    Says that the service is there.
    """
    return answer({"message": GREETING})


@bp.get("/health")
@operation(tag="Operation", scope=Scope.OPEN, returns=(HealthReport,))
def health() -> Response:
    """Tell how the service is.

    `active_requests` counts the ingestions that are not finished.
    """
    health = the_service().queries.health()
    keyring: Keyring | None = current_app.extensions["keyring"]
    report = {
        "status": "healthy",
        "timestamp": health.at,
        "active_requests": health.unfinished,
        "worker": "running" if health.worker_alive else "stopped",
        "workers": health.workers,
        "queued_items": health.queued_items,
        "queue": health.state,
        "reason": health.reason,
        "until": health.until,
        "trouble": health.trouble,
        "keys": None if keyring is None else keyring.health(),
        "version": VERSION,
        "max_items": current_app.config["ITEM_LIMIT"],
        "max_body": current_app.config["BODY_LIMIT"],
    }
    return answer(_HEALTH_REPORT.dump(report))


@bp.get("/health/live")
@operation(tag="Operation", scope=Scope.OPEN, returns=(Liveness,))
def live() -> Response:
    """Tell whether the process answers.

    For a supervisor that restarts what does not.
    """
    return answer({"status": "live"})


@bp.get("/health/ready")
@operation(
    tag="Operation", scope=Scope.OPEN, returns=(Readiness,), raises=(StorageUnavailable, Stopping)
)
def ready() -> Response:
    """Tell whether work is taken.

    For a load balancer: 503, with the reason, while new work would not be taken or not be done.
    """
    the_service().queries.check_ready()
    return answer({"status": "ready"})
