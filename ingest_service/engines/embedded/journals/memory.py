"""The journal that is none: it keeps everything as long as the process lives."""

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from ingest_service.domain.model import FAMILIES, Batch, Ingestion, Priority, Resend
from ingest_service.engines.embedded.journal import (
    EXAMPLES,
    GAP_TOLERANCE,
    KEY_LIFETIME,
    IdempotencyKey,
    Instant,
    ItemResult,
    RateProof,
    Recovered,
    Results,
    Settled,
    Start,
    Summary,
    Wanted,
    decode_outcomes,
    final_outcomes,
    summary_of,
)
from ingest_service.errors import IdempotencyMismatch

#: At the default pace, those of nearly six days.
KEPT_STARTS = 100_000


#: The round, when it was settled, which offsets (None means all), their outcomes as text.
_Row = tuple[int, datetime, Sequence[int] | None, bytes]


@dataclass(slots=True)
class _Kept:
    ingestion: Ingestion
    #: By index: what was settled, mostly all of it at once.
    settled: dict[int, tuple[_Row, ...]] = field(default_factory=dict)


class MemoryJournal:
    """Keeps everything as long as the process lives; a restart forgets work and pace together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, tuple[IdempotencyKey, str, datetime]] = {}
        self._kept: dict[str, _Kept] = {}
        #: The last starts, for `rate_proof`; all of them would cost more than the results.
        self._starts: deque[Start] = deque(maxlen=KEPT_STARTS)
        self._last_slot: tuple[str, int] | None = None
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
        """Keep the start for `rate_proof`, replacing an earlier record of the same one."""
        start = Start(instant.at, batch.ingestion_id, batch.index, instant.gap, instant.required)
        with self._lock:
            if self._last_slot == (batch.batch_id, batch.start_no):
                self._starts.pop()
            self._last_slot = batch.batch_id, batch.start_no
            self._starts.append(start)

    def settled(self, batch: Batch, settled: Settled) -> None:
        """Keep the final outcomes."""
        offsets, text = final_outcomes(batch, settled)
        whole = isinstance(batch.offsets, range) and len(offsets) == len(batch.offsets)
        row = (batch.start_no, settled.at, None if whole else offsets, text)
        with self._lock:
            of_ingestion = self._kept[batch.ingestion_id].settled
            earlier = of_ingestion.get(batch.index, ())
            of_ingestion[batch.index] = (*(each for each in earlier if each[0] != row[0]), row)

    def cancelled(self, ingestion: Ingestion, at: datetime) -> None:
        """Nothing to do: what does not survive needs no record."""

    def moved(self, ingestion: Ingestion, priority: Priority) -> None:
        """Nothing to do either."""

    def remember(self, name: str, value: str) -> None:
        """Nothing to do either."""

    def rounds(self, ingestion_id: str) -> dict[int, int]:
        """Look up the last round that was settled; what is sent again was settled before."""
        with self._lock:
            settled = self._kept[ingestion_id].settled
            return {index: rows[-1][0] for index, rows in settled.items()}

    def reopened(self, ingestion: Ingestion, failed: Sequence[Resend], at: datetime) -> None:
        """Take it out of the finished ones."""
        with self._lock:
            self._finished.pop(ingestion.ingestion_id, None)

    def summaries(self, wanted: Wanted) -> list[Summary]:
        """Look through all, the newest first."""
        with self._lock:
            newest = [kept.ingestion for kept in reversed(self._kept.values())]
        found = (summary_of(each) for each in newest if each.sequence < wanted.before)
        fitting = (
            each
            for each in found
            if wanted.word in (None, FAMILIES[each.kind].words[each.counts.status])
            and wanted.outcome in (None, each.counts.outcome)
            and wanted.priority in (None, each.priority)
            and (each.finished_at is None or each.finished_at >= wanted.finished_since)
        )
        return list(islice(fitting, wanted.limit))

    def rate_proof(self, since: datetime, until: datetime) -> RateProof:
        """Look through the starts that are kept."""
        with self._lock:
            found = [start for start in self._starts if since <= start.at < until]
        gaps = [start.gap for start in found if start.gap is not None]
        early = [
            start
            for start in found
            if start.gap is not None and start.gap < start.required - GAP_TOLERANCE
        ]
        return RateProof(len(found), min(gaps, default=None), len(early), early[:EXAMPLES])

    def finished(self, ingestion: Ingestion) -> None:
        """Note when it ended."""
        assert ingestion.finished_at is not None  # noqa: S101 - narrows the type
        with self._lock:
            self._finished[ingestion.ingestion_id] = ingestion.finished_at

    def results(self, ingestion_id: str, indices: Iterable[int]) -> Results:
        """Return what was settled of the batches at `indices`."""
        with self._lock:
            kept = self._kept.get(ingestion_id)
            of_batch = {index: kept.settled.get(index, ()) for index in indices} if kept else {}
        found: Results = {}
        for index, rows in of_batch.items():
            for _, at, offsets, text in rows:
                outcomes = decode_outcomes(text)
                which = range(len(outcomes)) if offsets is None else offsets
                for place, outcome in zip(which, outcomes, strict=True):
                    found[index, place] = ItemResult(at, outcome)
        return found

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
