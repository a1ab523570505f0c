"""The queue's one owner, seen from outside: protocols, and the values they speak in.

Whatever changes the state of the queue is a method here, all or nothing; readers get
frozen snapshots. An engine implements them all; a process that only answers HTTP can
be composed without `Dispatch`. Each has at most six methods: more are two subjects.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from ingest_service.domain.caller import ANYBODY, Caller
from ingest_service.domain.ingestion import IngestionSnapshot
from ingest_service.domain.items import Items
from ingest_service.domain.model import Batch, ItemState, Outcome, OutcomeWord, Priority
from ingest_service.domain.rollup import Counts
from ingest_service.domain.settlement import Decision
from ingest_service.domain.snapshot import QueueSnapshot
from ingest_service.engines.audit import AuditEntry, AuditQuery, MarkKind
from ingest_service.engines.history import History
from ingest_service.engines.vitals import Vitals
from ingest_service.errors import IngestionNotFound


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """What a client calls its request, and a digest of what the request asks for."""

    key: str
    digest: bytes
    #: Name of the API key whose word it is; another's same word is another one.
    owner: str | None = None


class Draft(NamedTuple):
    """A request that has not been accepted yet."""

    items: Items
    priority: Priority
    #: Items of a full batch.
    batch_size: int
    #: Who asks for it.
    caller: Caller = ANYBODY

    @property
    def batches_total(self) -> int:
        """How many batches the items make."""
        return -(-len(self.items) // self.batch_size)


class Accepted(NamedTuple):
    """The answer to a request."""

    ingestion_id: str
    #: Whether the same request was answered before, under the same idempotency key.
    replayed: bool


class Acceptance(NamedTuple):
    """A request on its way to the disk."""

    #: The id it will have, unless its idempotency key was used before.
    ingestion_id: str
    #: The id that the key stands for, once it is durable and visible; has
    #: `StorageUnavailable`, or `IdempotencyMismatch` if the key stands for something else.
    durable: "Future[str]"

    def result(self) -> Accepted:
        """Wait until it is durable and visible; raise what kept it from that."""
        ingestion_id = self.durable.result()
        return Accepted(ingestion_id, replayed=ingestion_id != self.ingestion_id)


class ItemResult(NamedTuple):
    """What became of an item, for good, and when."""

    at: datetime
    outcome: Outcome


class Result(NamedTuple):
    """What became of one item, and what its client calls it."""

    #: Where the item stands in its ingestion, from 0.
    position: int
    key: int | str
    outcome: Outcome
    at: datetime


class Start(NamedTuple):
    """A batch start, as the owner of the upstream cares about it."""

    at: datetime
    ingestion_id: str
    batch: int
    #: Seconds since the one before, by when the requests were on the wire as far as known.
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


#: How much less than required a gap may be, in seconds: the clock's resolution, and rounding.
GAP_TOLERANCE = 0.001
#: How many violations are listed.
EXAMPLES = 100


@dataclass(frozen=True, slots=True)
class Hold:
    """Until when the upstream wants to be left alone, on both clocks."""

    at: datetime
    #: Reading of the monotonic clock, and what that counts from (`Clock.boot_id`).
    monotonic: float
    boot_id: str


@dataclass(frozen=True, slots=True)
class OperatorState:
    """What holds over restarts besides the work itself."""

    #: Why the queue is paused, None while it runs.
    paused: str | None = None
    #: The interval an operator has set, in seconds, None if none.
    interval: float | None = None
    #: The configured interval at that time: whoever changes that means it.
    configured_interval: float | None = None
    hold: Hold | None = None
    #: 32 bytes in hexadecimal that seal the cookies of people, None as long as nobody has asked.
    session_secret: str | None = None


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Which ingestions, newest first."""

    #: Only those with a smaller sequence.
    before: int
    limit: int
    #: Only those for which the word of their family is this one.
    word: str | None = None
    outcome: OutcomeWord | None = None
    priority: Priority | None = None
    #: Only those that came with the key of this name.
    submitted_by: str | None = None
    #: Only those that are not finished.
    unfinished: bool = False


class Move(NamedTuple):
    """The effect of another class."""

    old: Priority
    #: The queue before and after, with the ingestion's place.
    before: QueueSnapshot
    after: QueueSnapshot
    #: How many other ingestions end later because of it, and by how many seconds at most.
    delayed: int
    longest_delay: float


class Slot(NamedTuple):
    """The permission to start one batch, used by that batch."""

    #: Counted from 1 over all restarts.
    number: int
    batch: Batch
    #: When it was taken (monotonic).
    at: float
    #: Seconds between slots at that time.
    interval: float
    #: Whether no other batch may be started beside it.
    fills: bool = False


#: A batch that has ended, and what becomes of it.
Ended = tuple[Slot, Decision]


class Intake(Protocol):
    """Taking responsibility for work."""

    def accept(self, draft: Draft, key: IdempotencyKey | None) -> Acceptance:
        """Record `draft`: durable first, then visible, then runnable, then answered.

        Raise `QueueFull`, `QuotaFull` or `Stopping`; what is returned may have more to raise.
        What waits of the same API key never exceeds what it may have waiting, however
        many are accepted at once.
        """
        ...

    def look(self, draft: Draft) -> None:
        """Raise `QueueFull` or `QuotaFull` if `accept` would now; take no room."""
        ...


class Reading(Protocol):
    """Telling about it. Everything raises `IngestionNotFound` for what nobody knows (any more)."""

    def find(self, ingestion_id: str, batches: range) -> IngestionSnapshot:
        """Return an ingestion with the items of `batches`; reads no more than these."""
        ...

    def snapshot(self, of: "str | Draft | None" = None) -> QueueSnapshot:
        """Return the queue at one moment, with the place of an ingestion or of a newcomer."""
        ...

    def results(
        self,
        ingestion_id: str,
        wanted: Sequence[ItemState],
        *,
        offset: int = 0,
        limit: int,
        after: int = -1,
    ) -> list[Result]:
        """Return up to `limit` results in the order of the items, without the first `offset`.

        `after` is the position of an item: only those behind it count.
        """
        ...

    def ingestions(self, query: ListQuery) -> list[IngestionSnapshot]:
        """Return the ingestions that `query` describes, without their items."""
        ...

    def shortage(self) -> str | None:
        """Return what keeps new work out while what was accepted goes on, None if nothing does."""
        ...


class Following(Protocol):
    """Following an ingestion, for who may not be kept waiting."""

    def is_at_hand(self, ingestion_id: str | None = None) -> bool:
        """Tell whether `Reading.find` needs no disk; a guess, for who may not wait.

        Without an id: whether the queue is in this process, so that it can be looked at, and
        work be taken, without waiting for anybody.
        """
        ...

    def watch(
        self, ingestion_id: str, version: int, on_change: Callable[[], None]
    ) -> Callable[[], None]:
        """Call `on_change` once when an ingestion is not at `version` any more.

        At once if it is not now. From any thread, which must not be kept waiting. Return
        what ends the watch.
        """
        ...


class Records(Protocol):
    """What is on record, and can be shown to others: the starts, and who did what."""

    def rate_proof(self, since: datetime | None, until: datetime | None) -> RateProof:
        """Return what the starts of a period show; without bounds, all that are kept."""
        ...

    def audit(self, query: AuditQuery) -> list[AuditEntry]:
        """Return what was done, newest first, as far as its retention has not ended."""
        ...

    def history(self, since: datetime, until: datetime, step: timedelta) -> History:
        """Return what happened in a period; `since` is a whole minute, and so is `step`."""
        ...

    def totals(self) -> Counts:
        """Return everything that was ever counted, see `domain.rollup`; it only grows."""
        ...

    def vitals(self) -> Vitals:
        """Return how the machinery is."""
        ...

    def check(self) -> None:
        """Raise `StorageUnavailable` if nothing can be recorded now."""
        ...


class Bookkeeping(Protocol):
    """What is recorded besides the queue."""

    def note(self, kind: MarkKind, before: Any, after: Any, caller: Caller) -> None:
        """Record that something besides the queue was changed, which JSON can say."""
        ...

    def session_secret(self) -> bytes:
        """Return 32 random bytes, made and recorded when somebody asks first."""
        ...


class Control(Protocol):
    """What is changed: durable first, together with who did it, then in effect, then answered.

    What would be as it is already is not recorded.
    What does not exist for the caller is an `IngestionNotFound` to it, whatever its state.
    """

    def cancel(self, ingestion_id: str, caller: Caller) -> IngestionSnapshot:
        """Give up what has not been started; what is under way ends.

        Does nothing the second time. Raise `IngestionNotFound`, or `Conflict` if it is finished.
        """
        ...

    def move(
        self, ingestion_id: str, priority: Priority, caller: Caller, *, dry_run: bool = False
    ) -> Move:
        """Give what is left another class; with `dry_run` only tell what that would do.

        Raise `IngestionNotFound`, or `Conflict` if it is finished.
        """
        ...

    def reopen(self, ingestion_id: str, caller: Caller) -> int:
        """Queue the failed items once more; return how many.

        Those of a batch that is still being worked on are left alone. Raise
        `IngestionNotFound`, `QueueFull`, `QuotaFull`, or `Conflict` if it was cancelled.
        """
        ...

    def delete(self, ingestion_id: str, caller: Caller) -> IngestionSnapshot:
        """Forget a finished ingestion but for its starts; return what it was.

        Nobody can find it any more. Raise `IngestionNotFound`, or `Conflict` if it is not
        finished.
        """
        ...

    def pause(self, reason: str | None, caller: Caller) -> None:
        """Start nothing from now on because of `reason`; None goes on, at the pace."""
        ...

    def set_interval(self, seconds: float, caller: Caller) -> None:
        """Change the pace, counting from the last start."""
        ...


class Dispatch(Protocol):
    """Handing batches to the upstream, for whoever calls it; instants are monotonic."""

    def take(self, ended: Sequence[Ended] = ()) -> Slot | float:
        """Settle what has `ended`; take the open slot with the batch it serves, durable by then.

        Otherwise return the instant at which to ask again, inf if that is when something
        changes. Both can share a transaction; if it fails, neither has happened.
        """
        ...

    def confirm(self, slot: Slot) -> bool:
        """Tell whether the batch of `slot` may be sent now; if not, the slot is given back."""
        ...

    def called(self, slot: Slot, ends_at: float | None) -> None:
        """Note that the upstream has the batch, and when it will have ended if that is known."""
        ...

    def sent(self, slot: Slot, at: float) -> None:
        """Count the pace from `at`, when the last request so far was on the wire.

        Until then no other slot opens; -inf if nobody can tell.
        """
        ...

    def hold(self, until: float) -> None:
        """Leave the upstream alone until then; only ever extended."""
        ...

    def settle(self, slot: Slot, decision: Decision) -> None:
        """Record what became of the batch of `slot`, and apply it; a second time does nothing."""
        ...


def visible(snapshot: IngestionSnapshot, caller: Caller) -> IngestionSnapshot:
    """Return `snapshot`; raise `IngestionNotFound` if it does not exist for the caller."""
    if not caller.sees(snapshot.submitted_by):
        raise IngestionNotFound
    return snapshot
