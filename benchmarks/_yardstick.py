"""The same contract as a FastAPI application in memory: what the front is measured against.

It keeps nothing on a disk and sends nothing; it validates, answers and remembers.
"""

import asyncio
import itertools
import logging
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

BATCH_SIZE = 3
RANKS: dict[str, int] = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}

app = FastAPI()
log = logging.getLogger("yardstick")
log.addHandler(logging.StreamHandler())
log.setLevel(logging.INFO)
ingestions: dict[str, dict[str, Any]] = {}
queue: asyncio.PriorityQueue[tuple[int, int, str]] = asyncio.PriorityQueue()
sequence = itertools.count()


class Submission(BaseModel):
    """The body of a POST."""

    ids: list[Annotated[int, Field(ge=1, le=10**9 + 7)]] = Field(min_length=1)
    priority: Literal["HIGH", "MEDIUM", "LOW"]


@app.post("/ingest")
async def submit(submission: Submission) -> dict[str, str]:
    """Accept ids."""
    ingestion_id = str(uuid.uuid4())
    batches = [
        {
            "batch_id": str(uuid.uuid4()),
            "ids": submission.ids[at : at + BATCH_SIZE],
            "status": "yet_to_start",
        }
        for at in range(0, len(submission.ids), BATCH_SIZE)
    ]
    ingestions[ingestion_id] = {
        "ingestion_id": ingestion_id,
        "status": "yet_to_start",
        "created_at": datetime.now(UTC),
        "batches": batches,
    }
    for batch in batches:
        queue.put_nowait((RANKS[str(submission.priority)], next(sequence), str(batch["batch_id"])))
    log.info("accepted %s, %d ids", ingestion_id, len(submission.ids))
    return {"ingestion_id": ingestion_id}


@app.get("/status/{ingestion_id}")
async def status(ingestion_id: str) -> dict[str, Any]:
    """Tell where an ingestion is."""
    if ingestion_id not in ingestions:
        raise HTTPException(404, "Ingestion ID not found")
    return ingestions[ingestion_id]


@app.get("/health")
async def health() -> dict[str, str]:
    """Say that it is there."""
    return {"status": "healthy"}
