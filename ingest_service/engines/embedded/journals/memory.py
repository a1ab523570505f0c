"""The journal that is none: it keeps everything as long as the process lives."""

import threading
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from ingest_service.domain import rollup
from ingest_service.domain.ingestion import Ingestion, IngestionSnapshot, Submission
from ingest_service.domain.model import FAMILIES, Batch, Counts, Priority
from ingest_service.engines import IdempotencyKey, ItemResult, RateProof
from ingest_service.engines.audit import AuditEntry, AuditQuery, Mark
from ingest_service.engines.embedded.journal import (
    FINISHED_VERSION,
    Cancelled,
    Change,
    Counted,
    Deleted,
    Finished,
    FinishedQuery,
    Moved,
    OperatorChanged,
    Recovered,
    Reopened,
    Results,
    Sent,
    Settled,
    Started,
)
from ingest_service.engines.embedded.journals.audit_log import AuditLog
from ingest_service.engines.embedded.journals.rollups import MemoryRollups, count_of
from ingest_service.engines.embedded.journals.settled_log import SettledBatch, SettledLog
from ingest_service.engines.embedded.journals.start_log import StartLog
from ingest_service.engines.history import Recorded
from ingest_service.engines.options import KEY_LIFETIME
from ingest_service.engines.outcomes import final_outcomes
from ingest_service.engines.vitals import StorageVitals
from ingest_service.errors import IdempotencyMismatch

#: Most ingestions that one step of `prune` forgets.
_PER_STEP = 1_000
_NOTHING = Counts.of(b"")


_KeyName = tuple[str | None, str]


class _Settled(NamedTuple):
    """A change that says how a start has ended, its outcomes in words."""

    batch: Batch
    settled: SettledBatch


@dataclass(slots=True)
class _Kept:
    """What is remembered of an ingestion."""

    submission: Submission
    priority: Priority
    started_at: datetime | None = None
    cancelled: bool = False
    #: None until something was settled: most of what waits can wait for days.
    settled: SettledLog | None = None
    #: From here on only while it is finished.
    finished_at: datetime | None = None
    counts: Counts = _NOTHING
    item_states: bytes = b""

    def snapshot(self) -> IngestionSnapshot:
        """Return it, finished, without its items."""
        return IngestionSnapshot(
            ingestion_id=self.submission.ingestion_id,
            sequence=self.submission.sequence,
            kind=self.submission.kind,
            priority=self.priority,
            batch_size=self.submission.batch_size,
            batches_total=self.submission.batches_total,
            created_at=self.submission.created_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
            counts=self.counts,
            version=FINISHED_VERSION,
            submitted_by=self.submission.submitted_by,
        )


class MemoryJournal:
    """Keeps everything as long as the process lives; a restart forgets work and pace together."""

    def __init__(self) -> None:
        #: Held until what was accepted is visible; never taken under `_lock`.
        self._accepting = threading.Lock()
        self._lock = threading.Lock()
        #: By the name of the API key and the word.
        self._keys: dict[_KeyName, tuple[IdempotencyKey, str, datetime]] = {}
        self._kept: dict[str, _Kept] = {}
        #: The last starts; all of them would cost more than the results.
        self._starts = StartLog()
        self._audit = AuditLog()
        self._rollups = MemoryRollups()
        #: When each finished, in the order in which they did.
        self._ends: dict[str, datetime] = {}
        #: (sequence, id) of the finished ones, in that order.
        self._finished: list[tuple[int, str]] = []
        self._writers: Mapping[type, Callable[[Any], None]] = {
            Started: self._started,
            Sent: self._starts.note_sent,
            _Settled: self._settled,
            Finished: self._end,
            Cancelled: self._cancelled,
            Moved: self._moved,
            Reopened: self._reopened,
            Deleted: self._deleted,
            # What does not survive needs no record.
            OperatorChanged: lambda _: None,
            Mark: self._marked,
            Counted: self._counted,
        }

    def recover(self) -> Recovered:
        """There is never anything to go on with."""
        return Recovered()

    def accept(
        self, submission: Submission, key: IdempotencyKey | None, then: Callable[[], None]
    ) -> "Future[str]":
        """Remember the submission and its key."""
        done: Future[str] = Future()
        with self._accepting:
            try:
                stands_for = self._accept(submission, key)
                if stands_for == submission.ingestion_id:
                    then()
                done.set_result(stands_for)
            except Exception as error:  # noqa: BLE001 - whoever waits hears of it
                done.set_exception(error)
        return done

    def find_key(self, key: IdempotencyKey, at: datetime) -> str | None:
        """Look the key up."""
        with self._accepting, self._lock:
            return self._find_key(key, at)

    def record(self, *changes: Change) -> None:
        """Remember all `changes`."""
        # Outcomes that no text can hold are refused before anything is changed.
        prepared = [
            _prepared(change) if isinstance(change, Settled) else change for change in changes
        ]
        with self._lock:
            for change in prepared:
                self._writers[type(change)](change)

    def find(self, ingestion_id: str, batches: range) -> IngestionSnapshot | None:
        """Return a finished ingestion with the items of `batches`."""
        with self._lock:
            kept = self._finished_one(ingestion_id)
            if kept is None:
                return None
            size, total = kept.submission.batch_size, len(kept.submission.items)
            first, last = batches.start * size, min(batches.stop * size, total)
            return kept.snapshot()._replace(
                first_batch=batches.start,
                keys=kept.submission.items.keys(first, last) if first < last else (),
                states=kept.item_states[first:last],
            )

    def load(self, ingestion_id: str) -> Ingestion | None:
        """Return a finished ingestion as a whole."""
        with self._lock:
            kept = self._finished_one(ingestion_id)
            if kept is None:
                return None
            return Ingestion(
                kept.submission,
                kept.priority,
                started_at=kept.started_at,
                finished_at=kept.finished_at,
                next_batch=kept.submission.batches_total,
                cancelled=kept.cancelled,
                item_states=bytearray(kept.item_states),
            )

    def item_states(self, ingestion_id: str) -> bytes:
        """Return the states of all items of a finished ingestion."""
        with self._lock:
            kept = self._finished_one(ingestion_id)
            return kept.item_states if kept else b""

    def keys(self, ingestion_id: str, indices: Iterable[int]) -> Mapping[int, Sequence[int | str]]:
        """Return what a client calls the items of the batches at `indices`."""
        with self._lock:
            kept = self._kept.get(ingestion_id)
        if kept is None:
            return {}
        spans = ((index, kept.submission.span(index)) for index in indices)
        items = kept.submission.items
        return {index: items.keys(span.start, span.stop) for index, span in spans if span}

    def results(self, ingestion_id: str, indices: Iterable[int]) -> Results:
        """Return what was settled of the batches at `indices`."""
        with self._lock:
            kept = self._kept.get(ingestion_id)
            log = kept.settled if kept else None
            batches = {index: log.of_batch(index) for index in indices} if log else {}
        return {
            (index, offset): ItemResult(settled.at, outcome)
            for index, starts in batches.items()
            for settled in starts
            for offset, outcome in settled.outcomes()
        }

    def start_counts(self, ingestion_id: str) -> dict[int, int]:
        """Look up the last start that was settled; what is sent again was settled before."""
        with self._lock:
            kept = self._kept.get(ingestion_id)
            return kept.settled.start_counts() if kept and kept.settled else {}

    def finished(self, query: FinishedQuery) -> list[IngestionSnapshot]:
        """Look through the finished ones from the newest on."""
        with self._lock:
            end = bisect_left(self._finished, (query.before, ""))
            names = (self._finished[at] for at in range(end - 1, -1, -1))
            snapshots = (self._kept[ingestion_id].snapshot() for _, ingestion_id in names)
            return list(islice(filter(partial(_fits, query), snapshots), query.limit))

    def rate_proof(self, since: datetime, until: datetime) -> RateProof:
        """Look through the starts that are kept."""
        with self._lock:
            return self._starts.rate_proof(since, until)

    def audit(self, query: AuditQuery) -> list[AuditEntry]:
        """Look through the entries that are kept."""
        with self._lock:
            return self._audit.newest(query)

    def history(self, since: datetime, until: datetime, cuts: Sequence[int] = ()) -> Recorded:
        """Look through the minutes and the marks that are kept."""
        with self._lock:
            return self._rollups.recorded(since, until)

    def totals(self) -> rollup.Counts:
        """Return what was added up."""
        with self._lock:
            return dict(self._rollups.totals)

    def vitals(self) -> StorageVitals:
        """There are neither commits nor files."""
        return StorageVitals({}, {})

    def attach(self, tell_depth: Callable[[], rollup.Counts]) -> None:
        """Ask for it whenever a minute has ended."""
        self._rollups.tell_depth = tell_depth

    def oldest_finished(self) -> datetime | None:
        """Return when the first of those that are left was finished."""
        with self._lock:
            return next(iter(self._ends.values()), None)

    def prune(self, finished_before: datetime) -> int:
        """Forget the oldest ones, a thousand at a time."""
        with self._lock:
            self._audit.forget(finished_before)
            self._rollups.forget(finished_before)
            oldest = list(islice(self._ends.items(), _PER_STEP))
            gone = [ingestion_id for ingestion_id, at in oldest if at < finished_before]
            for ingestion_id in gone:
                self._drop_end(ingestion_id)
                del self._kept[ingestion_id]
            return len(gone)

    def check(self) -> None:
        """Memory can always be written."""

    def shortage(self) -> str | None:
        """Nor does it ever run short."""
        return None

    def close(self) -> None:
        """Nothing to let go of."""

    def _accept(self, submission: Submission, key: IdempotencyKey | None) -> str:
        with self._lock:
            if key is not None:
                stands_for = self._find_key(key, submission.created_at)
                if stands_for is not None:
                    return stands_for
                name = key.owner, key.key
                self._keys[name] = key, submission.ingestion_id, submission.created_at
            self._audit.submitted(submission)
            self._rollups.count(submission.created_at, count_of(submission))
            self._kept[submission.ingestion_id] = _Kept(submission, submission.priority)
            return submission.ingestion_id

    def _find_key(self, key: IdempotencyKey, at: datetime) -> str | None:
        # Oldest first: a dictionary keeps the order in which keys came.
        while self._keys and next(iter(self._keys.values()))[2] <= at - KEY_LIFETIME:
            del self._keys[next(iter(self._keys))]
        remembered, ingestion_id, _ = self._keys.get((key.owner, key.key), (key, None, at))
        if remembered.digest != key.digest:
            raise IdempotencyMismatch
        return ingestion_id

    def _marked(self, mark: Mark) -> None:
        self._audit.marked(mark)
        self._rollups.marked(mark)

    def _counted(self, change: Counted) -> None:
        self._rollups.count(change.at, change.counts)

    def _started(self, change: Started) -> None:
        self._starts.add(change)
        kept = self._kept[change.batch.ingestion_id]
        kept.started_at = kept.started_at or change.instant.at

    def _settled(self, change: _Settled) -> None:
        kept = self._kept[change.batch.ingestion_id]
        kept.settled = kept.settled or SettledLog()
        kept.settled.add(change.batch.index, change.settled)

    def _end(self, change: Finished) -> None:
        self._drop_end(change.ingestion_id)
        kept = self._kept[change.ingestion_id]
        kept.finished_at, kept.counts = change.at, change.counts
        kept.item_states = change.item_states
        self._ends[change.ingestion_id] = change.at
        insort(self._finished, (change.sequence, change.ingestion_id))

    def _cancelled(self, change: Cancelled) -> None:
        self._kept[change.ingestion_id].cancelled = True

    def _moved(self, change: Moved) -> None:
        self._kept[change.ingestion_id].priority = change.priority

    def _reopened(self, change: Reopened) -> None:
        self._drop_end(change.ingestion_id)
        kept = self._kept[change.ingestion_id]
        kept.finished_at, kept.cancelled, kept.item_states = None, False, b""

    def _deleted(self, change: Deleted) -> None:
        self._drop_end(change.ingestion_id)
        del self._kept[change.ingestion_id]
        names = (name for name, (_, of, _) in self._keys.items() if of == change.ingestion_id)
        if (name := next(names, None)) is not None:
            del self._keys[name]

    def _drop_end(self, ingestion_id: str) -> None:
        if self._ends.pop(ingestion_id, None) is not None:
            name = self._kept[ingestion_id].submission.sequence, ingestion_id
            del self._finished[bisect_left(self._finished, name)]

    def _finished_one(self, ingestion_id: str) -> _Kept | None:
        return self._kept[ingestion_id] if ingestion_id in self._ends else None


def _prepared(change: Settled) -> _Settled:
    """Return `change` in the form in which it is kept."""
    offsets, text = final_outcomes(change.batch, change.outcomes)
    whole = isinstance(offsets, range)
    settled = SettledBatch(change.batch.start_no, change.at, None if whole else offsets, text)
    return _Settled(change.batch, settled)


def _fits(query: FinishedQuery, snapshot: IngestionSnapshot) -> bool:
    word = FAMILIES[snapshot.kind].words[snapshot.counts.status]
    return (
        query.word in (None, word)
        and query.outcome in (None, snapshot.counts.outcome)
        and query.priority in (None, snapshot.priority)
        and query.submitted_by in (None, snapshot.submitted_by)
        and snapshot.finished_at is not None
        and snapshot.finished_at >= query.finished_since
    )
