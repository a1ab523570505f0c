"""What must outlive the moment, as changes that are written all or nothing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import NamedTuple, Protocol

from ingest_service.domain import rollup
from ingest_service.domain.ingestion import Ingestion, IngestionSnapshot, Submission
from ingest_service.domain.model import Batch, Counts, Outcome, Priority, Resend
from ingest_service.engines import IdempotencyKey, ItemResult, OperatorState, RateProof
from ingest_service.engines.audit import AuditEntry, AuditQuery, Mark
from ingest_service.engines.history import Recorded
from ingest_service.engines.vitals import StorageVitals

#: The version of everything that `Journal.find` returns; no unfinished ingestion gets so far.
FINISHED_VERSION = 2**31


class Instant(NamedTuple):
    """A moment, for people and for whoever has to count on from it."""

    at: datetime
    #: Reading of the monotonic clock.
    monotonic: float
    #: What that reading counts from, see `Clock.boot_id`.
    boot_id: str


class Started(NamedTuple):
    """A batch is started, before the upstream hears of it."""

    batch: Batch
    instant: Instant
    #: How many slots were ever taken, this one included.
    slots: int
    #: Seconds since the slot before, None if nobody knows.
    gap: float | None
    #: Seconds that have to be between the two.
    required: float


class Sent(NamedTuple):
    """The last request of a batch so far went out; the pace counts on from there."""

    batch: Batch
    instant: Instant
    #: Seconds since the last request of the batch before went out, None if nobody knows.
    gap: float | None


class Settled(NamedTuple):
    """How a start of a batch has ended; recording it twice changes nothing."""

    batch: Batch
    at: datetime
    #: One an item that was sent, in their order.
    outcomes: Sequence[Outcome]
    #: What is sent again, and when; None if every outcome is final.
    resend: Resend | None = None
    resend_at: datetime | None = None


class Finished(NamedTuple):
    """The end of an ingestion; from then on `Journal.find` knows it."""

    sequence: int
    ingestion_id: str
    at: datetime
    item_states: bytes
    counts: Counts


class Cancelled(NamedTuple):
    """What has not been started is given up."""

    sequence: int
    ingestion_id: str
    at: datetime


class Moved(NamedTuple):
    """What is left of an ingestion has another class."""

    sequence: int
    ingestion_id: str
    priority: Priority


class Reopened(NamedTuple):
    """Failed items of an ingestion, which may be finished, are sent once more.

    Undoes the end and a cancellation. The start number of each resend is 2 more than
    `Journal.start_counts` says: the one between is the decision.
    """

    sequence: int
    ingestion_id: str
    at: datetime
    failed: Sequence[Resend]


class Deleted(NamedTuple):
    """A finished ingestion is forgotten with its items, its results and its idempotency key.

    What is left are its starts, for the rate proof, and that it was submitted.
    """

    sequence: int
    ingestion_id: str


class OperatorChanged(NamedTuple):
    """What the operator wants, in place of what he wanted before."""

    state: OperatorState


class Counted(NamedTuple):
    """What the history counts of the changes beside it; see `domain.rollup`."""

    at: datetime
    counts: rollup.Counts


Change = (
    Started
    | Sent
    | Settled
    | Finished
    | Cancelled
    | Moved
    | Reopened
    | Deleted
    | OperatorChanged
    | Mark
    | Counted
)


class Recovered(NamedTuple):
    """What a journal knows when the service starts."""

    #: In the order of their sequences; what was in flight is to be sent again.
    unfinished: Sequence[Ingestion] = ()
    #: What waits for its next attempt: (when, id of its ingestion, what).
    retries: Sequence[tuple[datetime, str, Resend]] = ()
    #: Batches that were started as often as is sensible and never ended.
    hopeless: Sequence[Batch] = ()
    #: The highest sequence ever given.
    last_sequence: int = 0
    #: When the last slot was taken, or its last request went out if that is later.
    last_slot: Instant | None = None
    #: Whether a start was recorded that has no end.
    unsettled: bool = False
    #: How many slots were ever taken.
    slots: int = 0
    #: None if nothing was ever changed.
    operator: OperatorState | None = None


class FinishedQuery(NamedTuple):
    """Which finished ingestions, newest first."""

    #: Only those with a smaller sequence.
    before: int
    limit: int
    #: Only those finished since then.
    finished_since: datetime
    priority: Priority | None = None
    #: Only those for which the word of their family, or of their end, is this one.
    word: str | None = None
    outcome: str | None = None
    #: Only those that came with the API key of this name.
    submitted_by: str | None = None


#: Results of items by (index of the batch, offset in the batch).
Results = Mapping[tuple[int, int], ItemResult]


class Journal(Protocol):
    """Append first, act second: a caller acts only once the record has returned.

    Every method may be called from any thread, and every one that writes is all
    or nothing and raises `StorageUnavailable` when it could do nothing.
    """

    def recover(self) -> Recovered:
        """Return what there is to go on with; called once, before anything else."""
        ...

    def accept(
        self, submission: Submission, key: IdempotencyKey | None, then: Callable[[], None]
    ) -> "Future[str]":
        """Record a submission together with its key; give the id that the key stands for.

        That is another ingestion's id, and nothing is recorded, when the key was used
        within `KEY_LIFETIME`; `IdempotencyMismatch` if for something else. `then` is
        called once the record is durable and before any request of the same commit is
        answered, so what is answered can be seen; it is not called for another's id.
        It may run in another thread: nobody who waits for this journal may hold a lock
        that it takes.
        """
        ...

    def find_key(self, key: IdempotencyKey, at: datetime) -> str | None:
        """Return what `key` stands for at `at`, None if nothing; may raise as `accept` does."""
        ...

    def record(self, *changes: Change) -> None:
        """Write all `changes`, in their order, in one transaction."""
        ...

    def find(self, ingestion_id: str, batches: range) -> IngestionSnapshot | None:
        """Return a finished ingestion with the items of `batches`; reads no more than these."""
        ...

    def load(self, ingestion_id: str) -> Ingestion | None:
        """Return a finished ingestion as a whole, to be worked on again."""
        ...

    def item_states(self, ingestion_id: str) -> bytes:
        """Return the states of all items of a finished ingestion, empty if it is gone."""
        ...

    def keys(self, ingestion_id: str, indices: Iterable[int]) -> Mapping[int, Sequence[int | str]]:
        """Return what a client calls the items of the batches at `indices`, by index."""
        ...

    def results(self, ingestion_id: str, indices: Iterable[int]) -> Results:
        """Return the final outcomes of the items of the batches at `indices`."""
        ...

    def start_counts(self, ingestion_id: str) -> dict[int, int]:
        """Return how often each batch was started, decisions included, by index."""
        ...

    def finished(self, query: FinishedQuery) -> list[IngestionSnapshot]:
        """Return the newest finished ingestions that `query` describes, without their items."""
        ...

    def rate_proof(self, since: datetime, until: datetime) -> RateProof:
        """Return what the starts from `since` up to, not including, `until` show."""
        ...

    def audit(self, query: AuditQuery) -> list[AuditEntry]:
        """Return the newest entries that `query` describes: marks, and what was submitted."""
        ...

    def history(self, since: datetime, until: datetime, cuts: Sequence[int] = ()) -> Recorded:
        """Return what happened from `since` up to, not including, `until`.

        What is between two of `cuts`, minutes since 1970, may have been put together.
        """
        ...

    def totals(self) -> rollup.Counts:
        """Return everything that was ever counted."""
        ...

    def vitals(self) -> StorageVitals:
        """Return how the storage is."""
        ...

    def attach(self, tell_depth: Callable[[], rollup.Counts]) -> None:
        """Say what tells how much waits: a minute ends with as much as there is after it.

        It may be called in another thread, see `accept`.
        """
        ...

    def oldest_finished(self) -> datetime | None:
        """Return when the ingestion that `prune` would forget first was finished."""
        ...

    def prune(self, finished_before: datetime) -> int:
        """Forget some of what finished before, in a short step, or give back space that is free.

        Marks and minutes are forgotten in the same way, by when they were.

        Return how much of either that was; 0 if there is nothing left to do.
        """
        ...

    def check(self) -> None:
        """Raise `StorageUnavailable` if nothing can be written now."""
        ...

    def shortage(self) -> str | None:
        """Return why no submission is recorded while all else is, None if they are."""
        ...

    def close(self) -> None:
        """Write what is left and let go of everything; may be called twice."""
        ...
