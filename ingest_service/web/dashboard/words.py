"""What is so, in words and signs for people; pure functions of what the service tells."""

from dataclasses import dataclass
from functools import lru_cache

from ingest_service.domain.ingestion import IngestionSnapshot
from ingest_service.domain.model import Counts, OutcomeWord, Priority, QueueState, Status
from ingest_service.service.reports import Estimate, Health, PastSlot


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether all is well."""

    #: For the style: running, paused, held or bad.
    tone: str
    #: In a word or two, and whether all is well.
    state: str
    title: str
    #: Why, None if there is nothing to say.
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """An ingestion in a list."""

    snapshot: IngestionSnapshot
    estimate: Estimate | None
    #: For the style: waiting, started, well, mixed or bad.
    tone: str
    #: How it is, or why it waits.
    words: str


@dataclass(frozen=True, slots=True)
class Mark:
    """What became of something, as a sign and in words."""

    tone: str
    sign: str
    words: str


def verdict(health: Health) -> Verdict:
    """Return whether all is well, and if not, why."""
    if not health.worker_alive:
        reason = "The thread that sends batches has ended; restart the service."
        return Verdict("bad", "Not working", "The worker does not run", reason)
    if health.state is QueueState.PAUSED:
        reason = health.reason or "Nobody said why."
        return Verdict("paused", "Paused", "The queue is paused", reason)
    if health.trouble:
        return Verdict("bad", "In trouble", "Work does not go on as it should", health.trouble)
    if health.state is QueueState.HELD:
        return Verdict("held", "Held", "The upstream is left alone for now", health.reason)
    return Verdict("running", "Running", "All is well")


def row(snapshot: IngestionSnapshot, estimate: Estimate | None) -> Row:
    """Return an ingestion as lists show it."""
    counts = snapshot.counts
    outcome = counts.outcome
    if outcome is None:
        words = estimate.message if estimate else "Its last batch is being settled."
        return Row(snapshot, estimate, "started" if snapshot.started_at else "waiting", words)
    tone = {OutcomeWord.SUCCEEDED: "well", OutcomeWord.FAILED: "bad"}.get(outcome, "mixed")
    return Row(snapshot, None, tone, _outcome_words(counts))


def _outcome_words(counts: Counts) -> str:
    if counts.cancelled:
        failed = f", {counts.failed} failed" if counts.failed else ""
        return f"Cancelled: {counts.cancelled} of {counts.total} were never sent{failed}."
    if counts.failed == counts.total:
        return "Failed." if counts.total == 1 else f"All {counts.total} failed."
    if counts.failed:
        return f"{counts.failed} of {counts.total} failed."
    return "Succeeded."


def mark(slot: PastSlot) -> Mark:
    """Return what became of the batch that a slot served."""
    if slot.ended_at is None:
        return Mark("flight", "▸", "under way")
    if slot.succeeded == slot.items:
        return Mark("well", "✓", "succeeded")
    if slot.retried:
        return Mark("again", "↻", f"{slot.retried} of {slot.items} are sent again")
    if slot.failed == slot.items:
        return Mark("bad", "✗", "failed")
    return Mark("mixed", "◐", f"{slot.failed} of {slot.items} failed")


#: A batch by its state, and by its outcome once it has one.
BATCH_MARKS = {
    Status.WAITING: Mark("waits", "·", "waits"),
    Status.STARTED: Mark("flight", "▸", "under way or to be sent again"),
    OutcomeWord.SUCCEEDED: Mark("well", "✓", "succeeded"),
    OutcomeWord.PARTIALLY_FAILED: Mark("mixed", "◐", "failed in part"),
    OutcomeWord.FAILED: Mark("bad", "✗", "failed"),
    OutcomeWord.CANCELLED: Mark("gone", "-", "cancelled"),
}


def batch_marks(snapshot: IngestionSnapshot) -> list[Mark]:
    """Return what became of the batches that `snapshot` tells about."""
    size, states = snapshot.batch_size, snapshot.states
    return [_batch_mark(states[at : at + size]) for at in range(0, len(states), size)]


@lru_cache(maxsize=4096)
def _batch_mark(states: bytes) -> Mark:
    counts = Counts.of(states)
    return BATCH_MARKS[counts.outcome or counts.status]


def letter(priority: Priority) -> str:
    """Return the sign of a class."""
    return priority.name[0]
