"""What views answer: what it means, in which shapes, with an example of each."""

from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema

from ingest_service.web.response_schemas import (
    AcceptedIds,
    AcceptedMappings,
    CancelledIds,
    CancelledMappings,
    Document,
    DryRun,
    HealthReport,
    IdsResults,
    IdsStatus,
    IngestionList,
    Live,
    Liveness,
    MappingsResults,
    MappingsStatus,
    MovedIds,
    MovedMappings,
    ProblemPage,
    Queue,
    RateProofReport,
    Readiness,
    RetriedIds,
    RetriedMappings,
)

_ID = "8f14e45f-ceea-467f-a8f5-1c2b3d4e5f60"
_BATCH_ID = "8f14e45f-ceea-467f-a8f5-1c2b3d4e5f61"
_TIME = "2026-01-01T12:00:00.000Z"


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: what it means, its possible shapes, an example of each."""

    description: str
    schemas: tuple[type[Schema], ...]
    examples: dict[str, Any]
    headers: tuple[str, ...] = ()
    #: Other media types in which the same can be had as text, with an example of each.
    streams: dict[str, str] = field(default_factory=dict)


_COUNTS = {"total": 2, "queued": 0, "in_flight": 0, "succeeded": 2, "failed": 0, "cancelled": 0}
_DONE = {
    "progress": 100,
    "priority": "HIGH",
    "created_at": _TIME,
    "started_at": _TIME,
    "finished_at": _TIME,
    "outcome": "succeeded",
    "counts": _COUNTS,
    "queue": None,
    "eta": None,
    "why_waiting": None,
}
_ETA = {"next_start_at": _TIME, "finish_at": _TIME, "latest_finish_at": None}
_IDS_HEAD = {"ingestion_id": _ID, "status": "triggered"}
_DEPTH = {"batches": 1, "items": 2, "ingestions": 1, "oldest_at": _TIME}
_NO_DEPTH = {"batches": 0, "items": 0, "ingestions": 0, "oldest_at": None}
_SENT = {"attempts": 1, "status_code": 200}
_MAPPING_COUNTS = {"total_mappings": 2, "processed_mappings": 2, "failed_mappings": 0}
ACCEPTED = Answer(
    "Accepted.",
    (AcceptedIds, AcceptedMappings, DryRun),
    {
        "ids": {"ingestion_id": _ID},
        "mappings": {
            "request_id": _ID,
            "status": "pending",
            "message": "Ingestion request created successfully. 2 mappings queued for processing.",
        },
    },
    headers=("Location", "Idempotency-Replayed"),
)
ACCEPTED.examples["dry run"] = {
    "dry_run": True,
    "kind": "ids",
    "priority": "HIGH",
    "items": 5,
    "batches_total": 2,
    "batch_size": 3,
    "queue": {"position": 1, "batches_ahead": 0},
    "eta": _ETA,
}
NOT_MODIFIED = Answer("The answer that the client has still holds.", (), {})
CANCELLED = Answer(
    "The effect.",
    (CancelledIds, CancelledMappings),
    {"ids": {**_IDS_HEAD, "cancelled_items": 4, "in_flight_items": 3}},
)
RETRIED = Answer(
    "The effect.",
    (RetriedIds, RetriedMappings),
    {"ids": {**_IDS_HEAD, "retried_items": 1, "counts": {**_COUNTS, "queued": 1, "succeeded": 1}}},
)
MOVED = Answer(
    "The effect.",
    (MovedIds, MovedMappings),
    {
        "ids": {
            **_IDS_HEAD,
            "priority": "HIGH",
            "old": {"priority": "LOW", "eta": _ETA},
            "new": {"priority": "HIGH", "eta": _ETA},
            "delayed_ingestions": 2,
            "longest_delay_seconds": 10.0,
        }
    },
)
INGESTIONS = Answer(
    "A page of the list.",
    (IngestionList,),
    {
        "page": {
            "ingestions": [
                {
                    "ingestion_id": _ID,
                    "kind": "ids",
                    "status": "completed",
                    "priority": "HIGH",
                    "created_at": _TIME,
                    "started_at": _TIME,
                    "finished_at": _TIME,
                    "outcome": "succeeded",
                    "counts": _COUNTS,
                    "progress": 100,
                }
            ],
            "next_cursor": None,
        }
    },
)
QUEUE = Answer(
    "The queue.",
    (Queue,),
    {
        "running": {
            "state": "running",
            "reason": None,
            "until": None,
            "interval_seconds": 5.0,
            "policy": "strict",
            "depth": {"HIGH": _DEPTH, "MEDIUM": _NO_DEPTH, "LOW": _NO_DEPTH},
            "in_flight": [],
            "next_slot_at": _TIME,
            "next": [{"at": _TIME, "ingestion_id": _ID, "priority": "HIGH"}],
        }
    },
)
RATE_PROOF = Answer(
    "The proof.",
    (RateProofReport,),
    {
        "kept": {
            "from": _TIME,
            "to": _TIME,
            "starts": 17_280,
            "smallest_gap_seconds": 5.0,
            "violations": 0,
            "examples": [],
        }
    },
)
STATUS = Answer(
    "Where it is.",
    (IdsStatus, MappingsStatus),
    {
        "ids": {
            "ingestion_id": _ID,
            "status": "completed",
            "batches": [{"batch_id": _BATCH_ID, "ids": [1, 2], "status": "completed"}],
            "batches_total": 1,
        }
        | _DONE,
        "mappings": {
            "request_id": _ID,
            "status": "completed",
            "details": {
                "batches": [
                    {"batch_id": _BATCH_ID, "mapping_ids": ["a", "b"], "status": "completed"}
                ],
                "batches_total": 1,
            },
        }
        | _MAPPING_COUNTS
        | _DONE,
    },
    headers=("ETag", "Retry-After"),
)
RESULTS = Answer(
    "What became of the items.",
    (IdsResults, MappingsResults),
    {
        "ids": {
            "ingestion_id": _ID,
            "status": "completed",
            "total_ids": 2,
            "processed_ids": 1,
            "failed_ids": 1,
            "complete": True,
            "results": [
                {
                    "id": 1,
                    "status": "success",
                    "processed_data": {"id": 1, "data": "processed"},
                    "timestamp": _TIME,
                    **_SENT,
                },
                {
                    "id": 2,
                    "status": "failed",
                    "error": "The upstream answered 404.",
                    "timestamp": _TIME,
                    "attempts": 1,
                    "status_code": 404,
                },
            ],
        },
        "mappings": {
            "request_id": _ID,
            "status": "completed",
            "complete": True,
            "results": [
                {
                    "mapping_id": "map_001",
                    "status": "success",
                    "processed_data": {"source": "s", "target": "t"},
                    "timestamp": _TIME,
                    **_SENT,
                },
                {
                    "mapping_id": "map_002",
                    "status": "success",
                    "processed_data": None,
                    "timestamp": _TIME,
                    **_SENT,
                },
            ],
        }
        | _MAPPING_COUNTS,
    },
    streams={
        "application/x-ndjson": '{"id":1,"status":"success","processed_data":{"id":1},'
        f'"timestamp":"{_TIME}","attempts":1,"status_code":200}}\n',
        "text/csv": "id,status,processed_data,error,timestamp,attempts,status_code\r\n"
        f'1,success,"{{""id"":1}}",,{_TIME},1,200\r\n',
    },
)
LIVE = Answer("There.", (Live,), {"live": {"message": "Ingestion API is live!"}})
LIVENESS = Answer("It answers.", (Liveness,), {"live": {"status": "live"}})
READINESS = Answer("Work is taken.", (Readiness,), {"ready": {"status": "ready"}})
HEALTH = Answer(
    "Well.",
    (HealthReport,),
    {
        "healthy": {
            "status": "healthy",
            "timestamp": _TIME,
            "active_requests": 2,
            "worker": "running",
            "queued_items": 17,
            "queue": "running",
            "reason": None,
            "until": None,
            "version": "0.1.0",
        }
    },
)
DOCUMENT = Answer(
    "The document.",
    (Document,),
    {
        "document": {
            "openapi": "3.1.0",
            "info": {"title": "ingest_service", "version": "0.1.0"},
            "paths": {},
        }
    },
)
PROBLEM_PAGE = Answer(
    "The explanation.",
    (ProblemPage,),
    {
        "queue-full": {
            "type": "/problems/queue-full",
            "title": "The queue is full",
            "status": 503,
            "explanation": "Nothing was stored. Repeat the request after `Retry-After`.",
        }
    },
)
