"""Work for a journal: what an engine would do with it, step by step."""

from datetime import UTC, datetime, timedelta

from ingest_service.domain.ids import fresh_id
from ingest_service.domain.ingestion import Ingestion, Submission
from ingest_service.domain.items import Ids, Items
from ingest_service.domain.model import Batch, Outcome, Priority, states_of
from ingest_service.engines import IdempotencyKey
from ingest_service.engines.embedded.journal import (
    Cancelled,
    Change,
    Finished,
    FinishedQuery,
    Instant,
    Journal,
    Settled,
    Started,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MAPPING = {"id": "m\n1", "source": "s", "target": "t", "transformation": {"deep": [1, None]}}
GOOD = Outcome(succeeded=True, processed_data={"got": [1.5, "é", None]})
BAD = Outcome(succeeded=False, error="no such id")
LATER = Outcome(succeeded=False, error="busy", status_code=503, transient=True)


def ingestion(
    sequence: int,
    items: Items | None = None,
    at: datetime = NOW,
    batch_size: int = 3,
    submitted_by: str | None = None,
) -> Ingestion:
    """Return an ingestion that nothing has happened to."""
    return Ingestion.of(
        Submission(
            ingestion_id=fresh_id(),
            sequence=sequence,
            priority=Priority.LOW,
            items=items or Ids([1, 2, 3, 4]),
            batch_size=batch_size,
            created_at=at,
            submitted_by=submitted_by,
            request_id=f"request-{sequence}",
        )
    )


def instant(seconds: float = 0) -> Instant:
    """Return the moment `seconds` after NOW."""
    return Instant(NOW + timedelta(seconds=seconds), 1000 + seconds, "boot")


def accept(journal: Journal, accepted: Ingestion, key: IdempotencyKey | None = None) -> str:
    """Have an ingestion accepted; return the id in the answer."""
    return journal.accept(accepted.submission, key, lambda: None).result(10)


def started(batch: Batch, slots: int = 1, seconds: float = 0, gap: float | None = None) -> Started:
    """Return the start of a batch at the moment `seconds` after NOW."""
    return Started(batch, instant(seconds), slots, gap, 5.0)


def take(ingestion: Ingestion) -> Batch:
    """Take the next batch of an ingestion."""
    batch = ingestion.first_batch_left()
    ingestion.take(batch)
    return batch


def start(journal: Journal, accepted: Ingestion, slots: int = 1) -> Batch:
    """Start the next batch of an ingestion."""
    batch = take(accepted)
    journal.record(started(batch, slots))
    accepted.start(batch, NOW)
    return batch


def settle(journal: Journal, accepted: Ingestion, batch: Batch, *outcomes: Outcome) -> None:
    """End a batch, and its ingestion with the last one."""
    accepted.settle(batch, states_of(outcomes), NOW)
    changes: list[Change] = [Settled(batch, NOW, outcomes)]
    if accepted.finished_at:
        changes.append(end(accepted))
    journal.record(*changes)


def end(accepted: Ingestion) -> Finished:
    """Return the end of an ingestion all of whose items are settled."""
    assert accepted.finished_at is not None
    return Finished(
        accepted.sequence,
        accepted.ingestion_id,
        accepted.finished_at,
        bytes(accepted.item_states),
        accepted.counts,
    )


def finish(journal: Journal, accepted: Ingestion, outcome: Outcome = GOOD) -> None:
    """Take an ingestion through everything."""
    accept(journal, accepted)
    while accepted.batches_left:
        batch = start(journal, accepted)
        settle(journal, accepted, batch, *[outcome] * len(batch.items))


def cancel(journal: Journal, accepted: Ingestion) -> None:
    """Cancel an accepted ingestion of which nothing is under way."""
    accepted.cancel(NOW)
    journal.record(Cancelled(accepted.sequence, accepted.ingestion_id, NOW), end(accepted))


def newest(limit: int = 100, before: int = 2**62, **which: object) -> FinishedQuery:
    """Return the question for finished ingestions, of any age."""
    return FinishedQuery(before, limit, NOW - timedelta(days=99_999), **which)  # type: ignore[arg-type]
