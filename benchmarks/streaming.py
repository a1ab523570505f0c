"""A million results as a stream: what stays in memory while they are fetched."""

import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from benchmarks._measure import Row, Table, seconds, size
from ingest_service.app import build, create_app
from ingest_service.domain.items import Ids
from ingest_service.domain.model import Priority
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.settings import Settings

FEW, MANY = 10_000, 1_000_000

_SETTINGS = Settings(interval=0, settle=0, simulated_latency=0, batch_size_ids=1_000)


def tables() -> Iterator[Table]:
    """Measure everything about streams."""
    with tempfile.TemporaryDirectory() as folder:
        parts = build(_SETTINGS, journal=SqliteJournal(Path(folder) / "journal.sqlite3"))
        client = create_app(_SETTINGS, parts).test_client()
        service = parts.service
        few, many = (
            service.submissions.accept(Ids(range(1, count + 1)), Priority.HIGH).ingestion_id
            for count in (FEW, MANY)
        )
        while service.queries.health().unfinished:
            parts.worker.step()
        memory, took = [], []
        for form in ("ndjson", "csv"):
            for ingestion_id, lines in ((few, FEW), (many, MANY)):
                path = f"/status/{ingestion_id}/results?format={form}"
                peak, duration = _fetch(client.get(path, buffered=False).response, lines)
                memory.append(peak)
                took.append(duration / lines)
        parts.journal.close()
    yield Table("Peak memory while results are streamed", size, _rows(memory, limit=4))
    yield Table("Time a result", seconds, _rows(took, limit=2))


def _rows(found: list[float], limit: float) -> list[Row]:
    """Compare the many with the few, form by form."""
    few = f"of {FEW:,}"
    return [
        Row(f"{form} of {MANY:,}", found[at + 1], few, found[at], limit)
        for at, form in ((0, "ndjson"), (2, "csv"))
    ]


def _fetch(chunks: object, lines: int) -> tuple[float, float]:
    """Read a stream to its end; return the peak of what it kept, in bytes, and the seconds."""
    began = time.perf_counter()
    tracemalloc.start()
    seen = sum(chunk.count(b"\n") for chunk in chunks)  # type: ignore[attr-defined]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if seen < lines:
        raise RuntimeError(f"{seen} lines instead of {lines}")
    return peak, time.perf_counter() - began
