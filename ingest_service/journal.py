"""What must outlive the moment: accepted requests, started batches, outcomes."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple, Protocol

import orjson

from ingest_service.errors import IdempotencyMismatch
from ingest_service.model import Again, Batch, Ingestion, Outcome

#: How long an idempotency key is remembered.
KEY_LIFETIME = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """What a client calls its request, and a digest of what the request asks for."""

    key: str
    digest: bytes


class Instant(NamedTuple):
    """A moment, for people and for whoever has to count on from it."""

    at: datetime
    #: Reading of the monotonic clock.
    monotonic: float
    #: What that reading counts from, see `Clock.era`.
    era: str


class Settled(NamedTuple):
    """How a start of a batch has ended."""

    at: datetime
    #: One an item that was sent, in their order.
    outcomes: Sequence[Outcome]
    #: What is sent again, and when; None if every outcome is final.
    again: Again | None = None
    again_at: datetime | None = None


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
    retries: Sequence[tuple[datetime, str, Again]] = ()
    #: Batches that were started as often as is sensible and never ended.
    hopeless: Sequence[Batch] = ()
    #: The highest sequence ever given.
    last_sequence: int = 0
    #: When the last slot was taken.
    last_slot: Instant | None = None
    #: What `remember` was told last, by name.
    remembered: Mapping[str, str] = field(default_factory=dict)


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

    def remember(self, name: str, value: str) -> None:
        """Keep `value` under `name`, in place of what was there."""
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
    """Return the places whose outcome will not change any more, and those outcomes as text."""
    pairs = zip(batch.places, settled.outcomes, strict=True)
    final = [(place, outcome) for place, outcome in pairs if not outcome.transient]
    return [place for place, _ in final], encode_outcomes(outcome for _, outcome in final)


def decode_outcomes(text: bytes) -> list[Outcome]:
    """Return the outcomes that `encode_outcomes` made `text` of."""
    return [Outcome(*each) for each in orjson.loads(text)]


@dataclass(slots=True)
class _Kept:
    ingestion: Ingestion
    #: By index and round: when it was settled, which places, their outcomes as text.
    settled: dict[int, dict[int, tuple[datetime, Sequence[int], bytes]]] = field(
        default_factory=dict
    )


class MemoryJournal:
    """Keeps everything as long as the process lives; a restart forgets work and pace together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, tuple[IdempotencyKey, str, datetime]] = {}
        self._kept: dict[str, _Kept] = {}
        #: Ids in the order in which they finished.
        self._finished: dict[str, datetime] = {}

    def recover(self) -> Recovered:
        """There is never anything to go on with."""
        return Recovered()

    def accepted(self, ingestion: Ingestion, key: IdempotencyKey | None) -> str:
        """Remember the ingestion and its key."""
        with self._lock:
            if key is not None:
                known = self._find_key(key, ingestion.created_at)
                if known is not None:
                    return known
                self._keys[key.key] = key, ingestion.ingestion_id, ingestion.created_at
            self._kept[ingestion.ingestion_id] = _Kept(ingestion)
            return ingestion.ingestion_id

    def known(self, key: IdempotencyKey, at: datetime) -> str | None:
        """Look the key up."""
        with self._lock:
            return self._find_key(key, at)

    def slot_taken(self, batch: Batch, instant: Instant) -> None:
        """Nothing to do: what does not survive needs no record."""

    def settled(self, batch: Batch, settled: Settled) -> None:
        """Keep the final outcomes."""
        places, text = final_outcomes(batch, settled)
        with self._lock:
            of_batch = self._kept[batch.ingestion_id].settled.setdefault(batch.index, {})
            of_batch[batch.round] = settled.at, places, text

    def remember(self, name: str, value: str) -> None:
        """Nothing to do: see `slot_taken`."""

    def finished(self, ingestion: Ingestion) -> None:
        """Note when it ended."""
        assert ingestion.finished_at is not None  # noqa: S101 - narrows the type
        with self._lock:
            self._finished[ingestion.ingestion_id] = ingestion.finished_at

    def results(self, ingestion_id: str, indices: Iterable[int]) -> Results:
        """Return what was settled of the batches at `indices`."""
        with self._lock:
            kept = self._kept.get(ingestion_id)
            of_batch = {index: kept.settled.get(index, {}) for index in indices} if kept else {}
            settled = [(index, row) for index, rows in of_batch.items() for row in rows.values()]
        return {
            (index, place): ItemResult(at, outcome)
            for index, (at, places, text) in settled
            for place, outcome in zip(places, decode_outcomes(text), strict=True)
        }

    def find(self, ingestion_id: str) -> Ingestion | None:
        """Return a finished ingestion."""
        with self._lock:
            found = ingestion_id in self._finished
            return self._kept[ingestion_id].ingestion if found else None

    def prune(self, finished_before: datetime) -> int:
        """Forget the oldest ones, a thousand at a time."""
        with self._lock:
            oldest = list(islice(self._finished.items(), 1_000))
            gone = [each for each, at in oldest if at < finished_before]
            for ingestion_id in gone:
                del self._finished[ingestion_id], self._kept[ingestion_id]
            return len(gone)

    def check(self) -> None:
        """Memory can always be written."""

    def close(self) -> None:
        """Nothing to let go of."""

    def _find_key(self, key: IdempotencyKey, at: datetime) -> str | None:
        # Oldest first: a dictionary keeps the order in which keys came.
        while self._keys and next(iter(self._keys.values()))[2] <= at - KEY_LIFETIME:
            del self._keys[next(iter(self._keys))]
        known, ingestion_id, _ = self._keys.get(key.key, (key, None, at))
        if known.digest != key.digest:
            raise IdempotencyMismatch
        return ingestion_id
