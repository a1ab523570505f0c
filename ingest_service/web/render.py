"""Snapshots in the words of the two families of clients."""

from functools import lru_cache
from typing import Any

from ingest_service.model import Counts, Kind, Outcome, Status, batch_ids
from ingest_service.service import Result
from ingest_service.store import Snapshot
from ingest_service.web.json_out import timestamp

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


def status(snapshot: Snapshot) -> dict[str, Any]:
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
        "counts": {
            "total": counts.total,
            "queued": counts.queued,
            "in_flight": counts.in_flight,
            "succeeded": counts.succeeded,
            "failed": counts.failed,
            "cancelled": counts.cancelled,
        },
    }


def results(snapshot: Snapshot, found: list[Result]) -> dict[str, Any]:
    """Return what became of items."""
    counts, noun = snapshot.counts, snapshot.items.kind.value
    return _head(snapshot) | {
        f"total_{noun}": counts.total,
        f"processed_{noun}": counts.succeeded,
        f"failed_{noun}": counts.failed,
        "complete": counts.settled == counts.total,
        "results": [_result(snapshot.items.kind, each) for each in found],
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


def _result(kind: Kind, result: Result) -> dict[str, Any]:
    outcome: Outcome = result.outcome
    body: dict[str, Any] = {
        "id" if kind is Kind.IDS else "mapping_id": result.key,
        "status": "success" if outcome.succeeded else "failed",
    }
    if outcome.succeeded:
        body["processed_data"] = outcome.processed_data
    else:
        body["error"] = outcome.error
    return body | {"timestamp": timestamp(result.at)}


def _word(kind: Kind, status: Status) -> str:
    return _WORDS[kind].get(status, status.value)


@lru_cache(maxsize=4096)
def _batch_status(states: bytes) -> Status:
    """Counting three bytes takes longer than remembering them, ten thousand times an answer."""
    return Counts.of(states).status
