"""What must outlive the moment: accepted requests, started batches, outcomes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import orjson

from ingest_service.domain.items import Kind
from ingest_service.domain.model import (
    Batch,
    Counts,
    Ingestion,
    Outcome,
    OutcomeWord,
    Priority,
    Resend,
)

#: How long an idempotency key is remembered.
KEY_LIFETIME = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """What a client calls its request, and a digest of what the request asks for."""

    key: str
    digest: bytes


class Instant(NamedTuple):
    """When a slot is taken, for people and for whoever has to count on from it."""

    at: datetime
    #: Reading of the monotonic clock.
    monotonic: float
    #: What that reading counts from, see `Clock.boot_id`.
    boot_id: str
    #: Seconds since the slot before, None if nobody knows.
    gap: float | None = None
    #: Seconds that have to be between the two.
    required: float = 0.0


class Summary(NamedTuple):
    """An ingestion without its items."""

    sequence: int
    ingestion_id: str
    kind: Kind
    priority: Priority
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    #: Of an unfinished one only whether it was started is known here.
    counts: Counts


class Start(NamedTuple):
    """A batch start, as the owner of the upstream cares about it."""

    at: datetime
    ingestion_id: str
    batch: int
    gap: float | None
    required: float


@dataclass(frozen=True, slots=True)
class RateProof:
    """What the starts in a period show."""

    starts: int
    smallest_gap: float | None
    #: How many starts came too early.
    violations: int
    #: The first of them.
    examples: Sequence[Start]


class Sent(NamedTuple):
    """When the last request of a batch really went out."""

    monotonic: float
    boot_id: str


class Settled(NamedTuple):
    """How a start of a batch has ended."""

    at: datetime
    #: One an item that was sent, in their order.
    outcomes: Sequence[Outcome]
    #: What is sent again, and when; None if every outcome is final.
    again: Resend | None = None
    again_at: datetime | None = None
    #: The pace goes on from there, if that is later than the slot.
    sent: Sent | None = None


class ItemResult(NamedTuple):
    """What became of an item, for good, and when."""

    at: datetime
    outcome: Outcome


#: Results of items by (index of the batch, place in the batch).
Results = dict[tuple[int, int], ItemResult]


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a journal knows when the service starts."""

    #: In the order of their sequences; what was in flight is to be sent again.
    unfinished: Sequence[Ingestion] = ()
    #: What waits for its next attempt: (when, id of its ingestion, what).
    retries: Sequence[tuple[datetime, str, Resend]] = ()
    #: Batches that were started as often as is sensible and never ended.
    hopeless: Sequence[Batch] = ()
    #: The highest sequence ever given.
    last_sequence: int = 0
    #: When the last slot was taken.
    last_slot: Instant | None = None
    #: How many slots were ever taken.
    slots: int = 0
    #: What `remember` was told last, by name.
    remembered: Mapping[str, str] = field(default_factory=dict)


class Wanted(NamedTuple):
    """Which ingestions, and how many."""

    #: Only those with a smaller sequence.
    before: int
    limit: int
    #: Only those that show this word to their clients.
    word: str | None
    outcome: OutcomeWord | None
    priority: Priority | None
    #: Only those unfinished or finished since then.
    finished_since: datetime


#: How much less than required a gap may be: the clock's resolution, and rounding.
GAP_TOLERANCE = 0.001
#: How many violations are listed.
EXAMPLES = 100


class Journal(Protocol):
    """Append first, act second: a caller acts only once the record has returned.

    Every method may be called from any thread, and every one that writes is all
    or nothing and raises `StorageUnavailable` when it could do nothing.
    """

    def recover(self) -> Recovered:
        """Return what there is to go on with; called once, before anything else."""
        ...

    def accepted(self, ingestion: Ingestion, key: IdempotencyKey | None) -> str:
        """Record an ingestion together with its key; return the id that the key stands for.

        That is another ingestion's id, and nothing is recorded, when the key was
        used within `KEY_LIFETIME`; `IdempotencyMismatch` if for something else.
        """
        ...

    def known(self, key: IdempotencyKey, at: datetime) -> str | None:
        """Return what `key` stands for at `at`, None if nothing; may raise as `accepted` does."""
        ...

    def slot_taken(self, batch: Batch, instant: Instant) -> None:
        """Record that `batch` is started, before the upstream hears of it."""
        ...

    def settled(self, batch: Batch, settled: Settled) -> None:
        """Record what became of the items of `batch`; repeating it changes nothing."""
        ...

    def finished(self, ingestion: Ingestion) -> None:
        """Record the end of an ingestion; from then on `find` knows it."""
        ...

    def cancelled(self, ingestion: Ingestion, at: datetime) -> None:
        """Record that what has not been started is given up."""
        ...

    def moved(self, ingestion: Ingestion, priority: Priority) -> None:
        """Record the new class of an ingestion."""
        ...

    def rounds(self, ingestion_id: str) -> dict[int, int]:
        """Return how often each batch was started, by index."""
        ...

    def reopened(self, ingestion: Ingestion, failed: Sequence[Resend], at: datetime) -> None:
        """Record that failed items of an ingestion, which may be finished, are sent once more.

        Each of `failed` is what comes after the rounds that `rounds` counts and one more.
        """
        ...

    def remember(self, name: str, value: str) -> None:
        """Keep `value` under `name`, in place of what was there."""
        ...

    def summaries(self, wanted: "Wanted") -> list[Summary]:
        """Return the newest ingestions that `wanted` describes, newest first."""
        ...

    def rate_proof(self, since: datetime, until: datetime) -> RateProof:
        """Return what the starts from `since` up to, not including, `until` show."""
        ...

    def results(self, ingestion_id: str, indices: Iterable[int]) -> Results:
        """Return the final outcomes of the items of the batches at `indices`."""
        ...

    def find(self, ingestion_id: str) -> Ingestion | None:
        """Return a finished ingestion, None if there is no such one."""
        ...

    def prune(self, finished_before: datetime) -> int:
        """Forget some of what finished before, in a short step; return how many ingestions."""
        ...

    def check(self) -> None:
        """Raise `StorageUnavailable` if nothing can be written now."""
        ...

    def close(self) -> None:
        """Write what is left and let go of everything; may be called twice."""
        ...


def encode_outcomes(outcomes: Iterable[Outcome]) -> bytes:
    """Return outcomes as text: a hundred bytes an item instead of a thousand.

    Raise `TypeError` if there is something in them that JSON cannot say.
    """
    rows = [
        (each.succeeded, each.processed_data, each.error, each.status_code, each.attempts)
        for each in outcomes
    ]
    # A copy: orjson leaves up to 4 KiB allocated behind the text it returns.
    return bytes(memoryview(orjson.dumps(rows)))


def final_outcomes(batch: Batch, settled: Settled) -> tuple[Sequence[int], bytes]:
    """Return the offsets whose outcome will not change any more, and those outcomes as text."""
    pairs = zip(batch.offsets, settled.outcomes, strict=True)
    final = [(place, outcome) for place, outcome in pairs if not outcome.transient]
    return [place for place, _ in final], encode_outcomes(outcome for _, outcome in final)


def decode_outcomes(text: bytes) -> list[Outcome]:
    """Return the outcomes that `encode_outcomes` made `text` of."""
    return [Outcome(*each) for each in orjson.loads(text)]


def summary_of(ingestion: Ingestion) -> Summary:
    """Return `ingestion` without its items."""
    return Summary(
        sequence=ingestion.sequence,
        ingestion_id=ingestion.ingestion_id,
        kind=ingestion.items.kind,
        priority=ingestion.priority,
        created_at=ingestion.created_at,
        started_at=ingestion.started_at,
        finished_at=ingestion.finished_at,
        counts=ingestion.counts,
    )
