"""The routes around it: is it there, is it well."""

from flask import Blueprint, Response, current_app

from ingest_service.service.service import IngestService
from ingest_service.version import VERSION
from ingest_service.web import answers
from ingest_service.web.openapi import operation
from ingest_service.web.responses import answer, timestamp

bp = Blueprint("ops", __name__)


@bp.get("/")
@operation("Greet", "Says that the service is there.", tag="Operation", answers={200: answers.LIVE})
def index() -> Response:
    """Say that the service is there."""
    return answer({"message": "Ingestion API is live!"})


@bp.get("/health")
@operation(
    "Tell how the service is",
    "`active_requests` counts the ingestions that are not finished.",
    tag="Operation",
    answers={200: answers.HEALTH},
)
def health() -> Response:
    """Tell how the service is."""
    found = _service().health()
    return answer(
        {
            "status": "healthy",
            "timestamp": timestamp(found.at),
            "active_requests": found.unfinished,
            "worker": "running" if found.worker_alive else "stopped",
            "queued_items": found.queued_items,
            "queue": found.state,
            "reason": found.reason,
            "until": timestamp(found.until),
            "version": VERSION,
        }
    )


@bp.get("/health/live")
@operation(
    "Tell whether the process answers",
    "For a supervisor that restarts what does not.",
    tag="Operation",
    answers={200: answers.LIVENESS},
)
def live() -> Response:
    """Say that the process answers."""
    return answer({"status": "live"})


@bp.get("/health/ready")
@operation(
    "Tell whether work is taken",
    "For a load balancer: 503, with the reason, while new work would not be done.",
    tag="Operation",
    answers={200: answers.READINESS},
    problems=("storage-unavailable", "not-ready"),
)
def ready() -> Response:
    """Say whether work is taken and done."""
    _service().check_ready()
    return answer({"status": "ready"})


def _service() -> IngestService:
    service: IngestService = current_app.extensions["ingest_service"]
    return service
