"""Snapshots in the words of the two families of clients.

Most goes through its schema. What can be large (batches, results, lists), or is asked for all
the time, is written by hand, because a schema takes many times as long; a test holds both
against each other.
"""

from datetime import datetime
from functools import lru_cache
from typing import Any, cast

from marshmallow import Schema

from ingest_service.domain.ingestion import IngestionSnapshot
from ingest_service.domain.items import Items, Kind
from ingest_service.domain.model import (
    FAMILIES,
    Counts,
    OutcomeWord,
    Priority,
    Status,
    batch_ids,
)
from ingest_service.engines import RateProof, Result
from ingest_service.engines.audit import AuditEntry
from ingest_service.service.reports import Estimate, Eta, MoveReport, Plan, QueueReport
from ingest_service.web.control_schemas import (
    CancelledIds,
    CancelledMappings,
    DeletedIds,
    DeletedMappings,
    MovedIds,
    MovedMappings,
    Queue,
    RateProofReport,
    RetriedIds,
    RetriedMappings,
)
from ingest_service.web.query_schemas import audit_cursor, cursor
from ingest_service.web.response_schemas import DryRun
from ingest_service.web.responses import timestamp

# Made once: making a schema takes longer than writing a small answer with it.
_CANCELLED: dict[Kind, Schema] = {Kind.IDS: CancelledIds(), Kind.MAPPINGS: CancelledMappings()}
_RETRIED: dict[Kind, Schema] = {Kind.IDS: RetriedIds(), Kind.MAPPINGS: RetriedMappings()}
_MOVED: dict[Kind, Schema] = {Kind.IDS: MovedIds(), Kind.MAPPINGS: MovedMappings()}
_DELETED: dict[Kind, Schema] = {Kind.IDS: DeletedIds(), Kind.MAPPINGS: DeletedMappings()}
_DRY_RUN, _QUEUE, _RATE_PROOF = DryRun(), Queue(), RateProofReport()


def accepted(ingestion_id: str, kind: Kind, items: int) -> dict[str, Any]:
    """Return the answer to a submission."""
    family = FAMILIES[kind]
    body = {family.id_key: ingestion_id}
    if kind is Kind.MAPPINGS:
        body["status"] = family.words[Status.WAITING]
        message = f"Ingestion request created successfully. {items} {kind} queued for processing."
        body["message"] = message
    return body


def status(snapshot: IngestionSnapshot, estimate: Estimate | None) -> dict[str, Any]:
    """Return where an ingestion is, in the words of its family."""
    counts = snapshot.counts
    head = _head(snapshot)
    if snapshot.kind is Kind.MAPPINGS:
        head |= {
            "total_mappings": counts.total,
            "processed_mappings": counts.succeeded,
            "failed_mappings": counts.failed,
            "details": _details(counts),
        }
    return {
        **head,
        "batches": _batches(snapshot),
        "batches_total": snapshot.batches_total,
        "progress": counts.progress,
        "priority": snapshot.priority.name,
        "submitted_by": snapshot.submitted_by,
        "created_at": timestamp(snapshot.created_at),
        "started_at": timestamp(snapshot.started_at),
        "finished_at": timestamp(snapshot.finished_at),
        "outcome": counts.outcome,
        "counts": _counts(counts),
        **_estimate(estimate),
    }


def plan(plan: Plan, items: Items, priority: Priority) -> dict[str, Any]:
    """Return what would become of a request."""
    return _dump(
        _DRY_RUN,
        {
            "dry_run": True,
            "kind": items.kind,
            "priority": priority,
            "items": len(items),
            "batches_total": plan.batches,
            "batch_size": plan.batch_size,
            "queue": None if plan.eta.position is None else plan.eta,
            "eta": _told(plan.eta),
        },
    )


def cancelled(snapshot: IngestionSnapshot) -> dict[str, Any]:
    """Return the effect of a cancellation."""
    effect = {
        "cancelled_items": snapshot.counts.cancelled,
        # Whatever is neither cancelled nor settled is under way, or about to be sent: it was
        # taken for a slot that is open, or was under way when the process before crashed.
        "in_flight_items": snapshot.counts.total - snapshot.counts.settled,
    }
    return _dump(_CANCELLED[snapshot.kind], _head(snapshot) | effect)


def retried(snapshot: IngestionSnapshot, items: int) -> dict[str, Any]:
    """Return the effect of trying again."""
    effect = {"retried_items": items, "counts": snapshot.counts}
    return _dump(_RETRIED[snapshot.kind], _head(snapshot) | effect)


def deleted(snapshot: IngestionSnapshot) -> dict[str, Any]:
    """Return what is gone."""
    effect = {"deleted_items": snapshot.counts.total}
    return _dump(_DELETED[snapshot.kind], _head(snapshot) | effect)


def moved(report: MoveReport) -> dict[str, Any]:
    """Return the effect of another class."""
    snapshot = report.snapshot
    effect = {
        "priority": snapshot.priority,
        "old": {"priority": report.old, "eta": _told(report.eta_before)},
        "new": {"priority": report.new, "eta": _told(report.eta_after)},
        "delayed_ingestions": report.delayed,
        "longest_delay_seconds": round(report.longest_delay, 3),
    }
    return _dump(_MOVED[snapshot.kind], _head(snapshot) | effect)


def ingestions(snapshots: list[IngestionSnapshot], *, more: bool) -> dict[str, Any]:
    """Return a page of a list."""
    return {
        "ingestions": [_summary(snapshot) for snapshot in snapshots],
        "next_cursor": cursor(snapshots[-1].sequence) if more else None,
    }


def queue(report: QueueReport) -> dict[str, Any]:
    """Return the queue as a whole."""
    coming = report.upcoming
    return _dump(
        _QUEUE,
        {
            "state": report.health.state,
            "reason": report.health.reason,
            "until": report.health.until,
            # A minus zero, which a journal may have kept, is a zero.
            "interval_seconds": report.interval + 0.0,
            "policy": report.policy,
            "depth": {priority.name: depth for priority, depth in report.depth.items()},
            "in_flight": report.in_flight,
            "taken": report.taken,
            "next_slot_at": coming[0].at if coming else None,
            "empty_at": report.empty_at,
            "next": coming,
        },
    )


def audit(entries: list[AuditEntry], *, more: bool) -> dict[str, Any]:
    """Return a page of what was done."""
    return {
        "entries": [audit_entry(entry) for entry in entries],
        "next_cursor": audit_cursor(entries[-1].place) if more else None,
    }


def audit_entry(entry: AuditEntry) -> dict[str, Any]:
    """Return what somebody did."""
    return {
        "at": timestamp(entry.at),
        "key": entry.key,
        "action": entry.action,
        "target": entry.target,
        "before": entry.before,
        "after": entry.after,
        "request_id": entry.request_id,
    }


def rate_proof(since: datetime | None, until: datetime | None, proof: RateProof) -> dict[str, Any]:
    """Return what the starts of a period show."""
    gap = proof.smallest_gap
    return _dump(
        _RATE_PROOF,
        {
            "from_": since,
            "to": until,
            "starts": proof.starts,
            "smallest_gap_seconds": None if gap is None else round(gap, 3),
            "violations": proof.violations,
            "examples": proof.examples,
        },
    )


def results(snapshot: IngestionSnapshot, page: list[Result]) -> dict[str, Any]:
    """Return what became of items."""
    counts, noun = snapshot.counts, snapshot.kind.value
    return _head(snapshot) | {
        f"total_{noun}": counts.total,
        f"processed_{noun}": counts.succeeded,
        f"failed_{noun}": counts.failed,
        "complete": counts.settled == counts.total,
        "submitted_by": snapshot.submitted_by,
        "results": [result(snapshot.kind, entry) for entry in page],
    }


def result(kind: Kind, result: Result) -> dict[str, Any]:
    """Return what became of one item."""
    outcome = result.outcome
    body: dict[str, Any] = {
        FAMILIES[kind].item_key: result.key,
        "status": "success" if outcome.succeeded else "failed",
    }
    if outcome.succeeded:
        body["processed_data"] = outcome.processed_data
    else:
        body["error"] = outcome.error
    return body | {
        "timestamp": timestamp(result.at),
        "attempts": outcome.attempts,
        "status_code": outcome.status_code,
    }


def _dump(schema: Schema, value: object) -> dict[str, Any]:
    return cast(dict[str, Any], schema.dump(value))


def _head(snapshot: IngestionSnapshot) -> dict[str, Any]:
    family = FAMILIES[snapshot.kind]
    return {
        family.id_key: snapshot.ingestion_id,
        "status": family.words[snapshot.counts.status],
    }


def _details(counts: Counts) -> str | None:
    """Return a sentence for people if not everything went well."""
    failed = f"{counts.failed} of {counts.total} mappings failed"
    if counts.cancelled:
        gone = f"Cancelled: {counts.cancelled} of {counts.total} mappings were given up"
        return f"{gone}, {counts.failed} failed." if counts.failed else f"{gone}."
    return f"{failed}; the results say why." if counts.failed else None


def _batches(snapshot: IngestionSnapshot) -> list[dict[str, Any]]:
    size, family = snapshot.batch_size, FAMILIES[snapshot.kind]
    count = -(-len(snapshot.states) // size)
    indices = range(snapshot.first_batch, snapshot.first_batch + count)
    batches = []
    for place, batch_id in enumerate(batch_ids(snapshot.ingestion_id, indices)):
        start, end = place * size, (place + 1) * size
        status, outcome = _batch_state(snapshot.states[start:end])
        batches.append(
            {
                "batch_id": batch_id,
                family.items_key: snapshot.keys[start:end],
                "status": family.words[status],
                "outcome": outcome,
            }
        )
    return batches


@lru_cache(maxsize=4096)
def _batch_state(states: bytes) -> tuple[Status, OutcomeWord | None]:
    """Counting three bytes takes longer than remembering them, ten thousand times an answer."""
    counts = Counts.of(states)
    return counts.status, counts.outcome


def _counts(counts: Counts) -> dict[str, int]:
    return {
        "total": counts.total,
        "queued": counts.queued,
        "in_flight": counts.in_flight,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
    }


def _estimate(estimate: Estimate | None) -> dict[str, Any]:
    if estimate is None:
        return {"queue": None, "eta": None, "why_waiting": None}
    eta, told = estimate.eta, _told(estimate.eta)
    place = {"position": eta.position, "batches_ahead": eta.batches_ahead}
    return {
        "queue": None if eta.position is None else place,
        "eta": told
        and {
            "next_start_at": timestamp(told.next_start_at),
            "finish_at": timestamp(told.finish_at),
            "latest_finish_at": timestamp(told.latest_finish_at),
        },
        "why_waiting": {
            "code": estimate.code,
            "message": estimate.message,
            "until": timestamp(estimate.until),
        },
    }


def _told(eta: Eta | None) -> Eta | None:
    """Return what knows when, None if nobody does."""
    if eta is None or eta.next_start_at is eta.finish_at is None:
        return None
    return eta


def _summary(summary: IngestionSnapshot) -> dict[str, Any]:
    counts = summary.counts
    return {
        "ingestion_id": summary.ingestion_id,
        "kind": summary.kind.value,
        "status": FAMILIES[summary.kind].words[counts.status],
        "priority": summary.priority.name,
        "submitted_by": summary.submitted_by,
        "created_at": timestamp(summary.created_at),
        "started_at": timestamp(summary.started_at),
        "finished_at": timestamp(summary.finished_at),
        "outcome": counts.outcome,
        "counts": _counts(counts),
        "progress": counts.progress,
    }
