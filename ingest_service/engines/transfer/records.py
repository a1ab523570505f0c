"""What a journal consists of, whatever keeps it.

Times are microseconds since 1970 in UTC. What an engine only keeps to be fast, or can tell from
the rest, is not in here: the states of items, the hours of the history, the sums of what waits.
Nor is what must not travel: the secret that seals the cookies of people.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingest_service.domain.items import Items


@dataclass(frozen=True, slots=True)
class IngestionRecord:
    """An accepted request; its items and its batches follow it."""

    sequence: int
    ingestion_id: str
    kind: str
    priority: int
    batch_size: int
    total: int
    created_at: int
    started_at: int | None
    finished_at: int | None
    cancelled: bool
    deleted: bool
    #: How many items have succeeded, failed, and were cancelled, once it is finished.
    counts: Sequence[int] | None
    submitted_by: str | None
    request_id: str | None

    def size(self, batch: int) -> int:
        """Return how many items a batch has."""
        return min(self.batch_size, self.total - batch * self.batch_size)


@dataclass(frozen=True, slots=True)
class ItemsRecord:
    """Some items of the ingestion before, in their order."""

    first_item: int
    items: Items


@dataclass(frozen=True, slots=True)
class StartRecord:
    """A start of a batch, and how it ended."""

    start_no: int
    attempt: int
    #: Which items of the batch were sent; None means all.
    offsets: Sequence[int] | None
    at: int
    gap: float | None
    #: The same by when the requests were on the wire.
    wire_gap: float | None
    #: None if nobody has noted it.
    required: float | None
    #: None if it never ended; if it is the last one of its batch, that is sent again.
    ended_at: int | None
    #: The items whose outcome was final, None means all of the batch; and the outcomes as JSON,
    #: None if there is none.
    final: Sequence[int] | None = None
    outcomes: bytes | None = None


@dataclass(frozen=True, slots=True)
class RetryRecord:
    """What is sent again of a batch whose last start has ended."""

    start_no: int
    attempt: int
    #: None means all.
    offsets: Sequence[int] | None
    #: None means at once.
    due: int | None


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """How far a batch of the ingestion before is, if it was ever started."""

    batch: int
    starts: Sequence[StartRecord]
    retry: RetryRecord | None
    #: Which items were cancelled after they had been sent.
    cancelled: Sequence[int]


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An idempotency key; the owner '' is nobody."""

    owner: str
    key: str
    #: In hexadecimal.
    digest: str
    ingestion_id: str
    created_at: int


@dataclass(frozen=True, slots=True)
class MarkRecord:
    """What was done to the queue, and by whom."""

    at: int
    kind: str
    before: Any
    after: Any
    key: str | None
    target: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class MinuteRecord:
    """What happened in a minute of the history, and what waited at its end."""

    minute: int
    counts: Mapping[str, int]
    #: None of the last minute: it may not be over.
    depth: Mapping[str, int] | None


@dataclass(frozen=True, slots=True)
class TotalsRecord:
    """Everything that was ever counted."""

    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class QueueRecord:
    """What holds for the queue as a whole."""

    #: How many slots were ever taken, and when the last one was.
    slots: int
    last_slot_at: int | None
    paused: str | None
    interval: float | None
    #: What the settings said when the operator set another interval.
    configured_interval: float | None
    held_until: int | None


Record = (
    IngestionRecord
    | ItemsRecord
    | BatchRecord
    | KeyRecord
    | MarkRecord
    | MinuteRecord
    | TotalsRecord
    | QueueRecord
)
