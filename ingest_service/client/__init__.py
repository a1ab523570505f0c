"""A client of the service: submit, follow, fetch, control.

    from ingest_service.client import IngestClient

    with IngestClient("http://127.0.0.1:8000") as client:
        ingestion = client.submit(ids=range(1, 10), priority="LOW")
        status = ingestion.wait(timeout=60)

It speaks HTTP and knows nothing of the server. See docs/client.md.
"""

from ingest_service.client.client import DEFAULT_URL, IngestClient, Ingestion
from ingest_service.client.errors import (
    BadAnswer,
    Busy,
    Conflict,
    ErrorEntry,
    IngestError,
    NotAllowed,
    NotFound,
    Problem,
    Refused,
    TimedOut,
    Unreachable,
)
from ingest_service.client.service_values import (
    BatchUnderWay,
    ComingSlot,
    Depth,
    EarlyStart,
    Limits,
    Queue,
    RateProof,
)
from ingest_service.client.submitting import Items, Part, Piece, parts
from ingest_service.client.values import (
    PRIORITIES,
    Cancelled,
    Counts,
    Eta,
    Moved,
    Place,
    Plan,
    Result,
    Retried,
    Status,
    Summary,
    WhyWaiting,
)

__all__ = [
    "DEFAULT_URL",
    "PRIORITIES",
    "BadAnswer",
    "BatchUnderWay",
    "Busy",
    "Cancelled",
    "ComingSlot",
    "Conflict",
    "Counts",
    "Depth",
    "EarlyStart",
    "ErrorEntry",
    "Eta",
    "IngestClient",
    "IngestError",
    "Ingestion",
    "Items",
    "Limits",
    "Moved",
    "NotAllowed",
    "NotFound",
    "Part",
    "Piece",
    "Place",
    "Plan",
    "Problem",
    "Queue",
    "RateProof",
    "Refused",
    "Result",
    "Retried",
    "Status",
    "Summary",
    "TimedOut",
    "Unreachable",
    "WhyWaiting",
    "parts",
]
