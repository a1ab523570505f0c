"""Snapshots in the words of the two families of clients."""

from datetime import datetime
from functools import lru_cache
from typing import Any

from ingest_service.domain.items import Items, Kind
from ingest_service.domain.model import Counts, Priority, Status, batch_ids
from ingest_service.engines.embedded.journal import RateProof, Summary
from ingest_service.engines.embedded.store import Snapshot
from ingest_service.service.operator import Moved
from ingest_service.service.reports import Plan, Prospects, QueueReport, Result
from ingest_service.web.request_schemas import cursor
from ingest_service.web.responses import timestamp

_WORDS = {
    Kind.IDS: {Status.WAITING: "yet_to_start", Status.STARTED: "triggered"},
    Kind.MAPPINGS: {Status.WAITING: "pending", Status.STARTED: "in_progress"},
}


def accepted(ingestion_id: str, kind: Kind, items: int) -> dict[str, Any]:
    """Return the answer to a submission."""
    if kind is Kind.IDS:
        return {"ingestion_id": ingestion_id}
    return {
        "request_id": ingestion_id,
        "status": "pending",
        "message": "Ingestion request created successfully. "
        f"{items} mappings queued for processing.",
    }


def status(snapshot: Snapshot, prospects: Prospects | None) -> dict[str, Any]:
    """Return where an ingestion is, in the words of its family."""
    counts, kind = snapshot.counts, snapshot.items.kind
    body = _head(snapshot)
    if kind is Kind.IDS:
        body |= {"batches": _batches(snapshot), "batches_total": snapshot.batches_total}
    else:
        body |= {
            "total_mappings": counts.total,
            "processed_mappings": counts.succeeded,
            "failed_mappings": counts.failed,
            "details": {"batches": _batches(snapshot), "batches_total": snapshot.batches_total},
        }
    return body | {
        "progress": counts.progress,
        "priority": snapshot.priority.name,
        "created_at": timestamp(snapshot.created_at),
        "started_at": timestamp(snapshot.started_at),
        "finished_at": timestamp(snapshot.finished_at),
        "outcome": counts.outcome,
        "counts": _counts(counts),
        **_prospects(prospects),
    }


def plan(plan: Plan, items: Items, priority: Priority) -> dict[str, Any]:
    """Return what would become of a request."""
    known = plan.forecast
    return {
        "dry_run": True,
        "kind": items.kind.value,
        "priority": priority.name,
        "items": len(items),
        "batches_total": plan.batches,
        "batch_size": plan.batch_size,
        "queue": known and {"position": known.position, "batches_ahead": known.batches_ahead},
        "eta": _eta(plan),
    }


def cancelled(snapshot: Snapshot) -> dict[str, Any]:
    """Return the effect of a cancellation."""
    return _head(snapshot) | {
        "cancelled_items": snapshot.counts.cancelled,
        # Whatever is neither cancelled nor settled is under way, or about to be sent: it was
        # taken for a slot that is open, or was under way when the process before crashed.
        "in_flight_items": snapshot.counts.total - snapshot.counts.settled,
    }


def retried(snapshot: Snapshot, items: int) -> dict[str, Any]:
    """Return the effect of trying again."""
    return _head(snapshot) | {"retried_items": items, "counts": _counts(snapshot.counts)}


def moved(
    snapshot: Snapshot,
    old_priority: Priority,
    before: Prospects | None,
    after: Prospects | None,
    moved: Moved,
) -> dict[str, Any]:
    """Return the effect of another class."""
    return _head(snapshot) | {
        "priority": snapshot.priority.name,
        "old": {"priority": old_priority.name, "eta": _eta(before)},
        "new": {"priority": snapshot.priority.name, "eta": _eta(after)},
        "delayed_ingestions": moved.delayed,
        "longest_delay_seconds": round(moved.longest_delay, 3),
    }


def ingestions(found: list[Summary], *, more: bool) -> dict[str, Any]:
    """Return a page of a list."""
    return {
        "ingestions": [_summary(each) for each in found],
        "next_cursor": cursor(found[-1].sequence) if more else None,
    }


def queue(report: QueueReport) -> dict[str, Any]:
    """Return the queue as a whole."""
    coming = [
        {
            "at": timestamp(at),
            "ingestion_id": ingestion.ingestion_id,
            "priority": ingestion.priority.name,
        }
        for at, ingestion in report.upcoming
    ]
    return {
        "state": report.health.state,
        "reason": report.health.reason,
        "until": timestamp(report.health.until),
        "interval_seconds": report.interval,
        "policy": report.policy,
        "depth": {
            priority.name: {
                "batches": depth.batches,
                "items": depth.items,
                "ingestions": depth.ingestions,
                "oldest_at": timestamp(depth.oldest_at),
            }
            for priority, depth in report.depth.items()
        },
        "in_flight": [
            {
                "ingestion_id": batch.ingestion_id,
                "batch_id": batch.batch_id,
                "items": len(batch.items),
                "attempt": batch.attempt,
            }
            for batch in report.in_flight
        ],
        "next_slot_at": coming[0]["at"] if coming else None,
        "next": coming,
    }


def rate_proof(since: datetime | None, until: datetime | None, proof: RateProof) -> dict[str, Any]:
    """Return what the starts of a period show."""
    gap = proof.smallest_gap
    return {
        "from": timestamp(since),
        "to": timestamp(until),
        "starts": proof.starts,
        "smallest_gap_seconds": None if gap is None else round(gap, 3),
        "violations": proof.violations,
        "examples": [
            {
                "at": timestamp(each.at),
                "ingestion_id": each.ingestion_id,
                "gap_seconds": each.gap,
                "required_seconds": each.required,
            }
            for each in proof.examples
        ],
    }


def results(snapshot: Snapshot, found: list[Result]) -> dict[str, Any]:
    """Return what became of items."""
    counts, noun = snapshot.counts, snapshot.items.kind.value
    return _head(snapshot) | {
        f"total_{noun}": counts.total,
        f"processed_{noun}": counts.succeeded,
        f"failed_{noun}": counts.failed,
        "complete": counts.settled == counts.total,
        "results": [result(snapshot.items.kind, each) for each in found],
    }


def _head(snapshot: Snapshot) -> dict[str, Any]:
    kind = snapshot.items.kind
    name = "ingestion_id" if kind is Kind.IDS else "request_id"
    return {name: snapshot.ingestion_id, "status": _word(kind, snapshot.counts.status)}


def _batches(snapshot: Snapshot) -> list[dict[str, Any]]:
    items, size, kind = snapshot.items, snapshot.batch_size, snapshot.items.kind
    first = snapshot.first // size
    count = -(-len(snapshot.states) // size)
    ids = batch_ids(snapshot.ingestion_id, range(first, first + count))
    noun = "ids" if kind is Kind.IDS else "mapping_ids"
    batches = []
    for place, batch_id in enumerate(ids):
        states = snapshot.states[place * size : (place + 1) * size]
        start = snapshot.first + place * size
        batches.append(
            {
                "batch_id": batch_id,
                noun: items.keys(start, start + len(states)),
                "status": _word(kind, _batch_status(states)),
            }
        )
    return batches


def result(kind: Kind, result: Result) -> dict[str, Any]:
    """Return what became of one item."""
    outcome = result.outcome
    body: dict[str, Any] = {
        "id" if kind is Kind.IDS else "mapping_id": result.key,
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


def _counts(counts: Counts) -> dict[str, int]:
    return {
        "total": counts.total,
        "queued": counts.queued,
        "in_flight": counts.in_flight,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
    }


def _prospects(prospects: Prospects | None) -> dict[str, Any]:
    if prospects is None:
        return {"queue": None, "eta": None, "why_waiting": None}
    place = {"position": prospects.position, "batches_ahead": prospects.batches_ahead}
    return {
        "queue": place if prospects.position is not None else None,
        "eta": _eta(prospects),
        "why_waiting": {
            "code": prospects.code,
            "message": prospects.message,
            "until": timestamp(prospects.until),
        },
    }


def _eta(known: Prospects | Plan | None) -> dict[str, Any] | None:
    if known is None or known.next_start_at is known.finish_at is None:
        return None
    return {
        "next_start_at": timestamp(known.next_start_at),
        "finish_at": timestamp(known.finish_at),
        "latest_finish_at": timestamp(known.latest_finish_at),
    }


def _summary(summary: Summary) -> dict[str, Any]:
    counts = summary.counts
    return {
        "ingestion_id": summary.ingestion_id,
        "kind": summary.kind.value,
        "status": _word(summary.kind, counts.status),
        "priority": summary.priority.name,
        "created_at": timestamp(summary.created_at),
        "started_at": timestamp(summary.started_at),
        "finished_at": timestamp(summary.finished_at),
        "outcome": counts.outcome,
        "counts": _counts(counts),
        "progress": counts.progress,
    }


def _word(kind: Kind, status: Status) -> str:
    return _WORDS[kind].get(status, status.value)


@lru_cache(maxsize=4096)
def _batch_status(states: bytes) -> Status:
    """Counting three bytes takes longer than remembering them, ten thousand times an answer."""
    return Counts.of(states).status
