"""The one door to everything, for HTTP, for a command line and for tests."""

import hashlib
import itertools
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

from ingest_service import logs
from ingest_service.clock import Clock
from ingest_service.domain.items import Items, Kind
from ingest_service.domain.model import (
    Ingestion,
    ItemState,
    OutcomeWord,
    Priority,
    new_ingestion_id,
)
from ingest_service.domain.pace import Pace
from ingest_service.domain.schedule import (
    Entry,
    Situation,
    forecast,
    slots_until_started,
    upcoming,
)
from ingest_service.engines.embedded.journal import (
    IdempotencyKey,
    Journal,
    RateProof,
    Summary,
    Wanted,
    summary_of,
)
from ingest_service.engines.embedded.ready_queue import Line
from ingest_service.engines.embedded.store import Snapshot, Store, snapshot_of
from ingest_service.engines.embedded.worker import Worker
from ingest_service.errors import IngestionNotFound, QueueFull, Stopping
from ingest_service.service.operator import Control
from ingest_service.service.outlook import outlook
from ingest_service.service.reports import (
    Accepted,
    Depth,
    Health,
    Plan,
    Prospects,
    QueueReport,
    Result,
)

#: How many may wait for a change at a time; each occupies a thread of the server.
MAX_WAITERS = 64
#: How many slots to come the queue tells.
UPCOMING = 60
#: When to look again if nobody knows when something will change, in seconds.
UNKNOWN = 30.0
#: A sequence after all others.
LAST = 2**62
#: How many results are read at a time while they are streamed.
STREAM_PAGE = 3_000
#: More than the journal keeps beyond the retention, and than two clocks differ.
KEPT_LONGER = timedelta(days=1)


#: By how much two readings of both clocks may differ in their difference.
CLOCK_JITTER = timedelta(milliseconds=50)


class IngestService:
    """Accepts work, tells about it; the worker does it."""

    def __init__(
        self,
        *,
        clock: Clock,
        pace: Pace,
        line: Line,
        store: Store,
        journal: Journal,
        worker: Worker,
        batch_sizes: dict[Kind, int],
        max_queued_items: int,
        retention: timedelta,
        last_sequence: int,
        configured_interval: float,
    ) -> None:
        self._clock = clock
        self._pace = pace
        self._line = line
        self._store = store
        self._journal = journal
        self._worker = worker
        self._batch_sizes = batch_sizes
        self._max_queued_items = max_queued_items
        self._retention = retention
        self._waiters = threading.BoundedSemaphore(MAX_WAITERS)
        self.control = Control(
            clock=clock,
            pace=pace,
            store=store,
            journal=journal,
            worker=worker,
            reserve=self._reserve,
            configured_interval=configured_interval,
        )
        #: The wall-clock time at which the monotonic clock was 0.
        self._zero = datetime.min.replace(tzinfo=UTC)
        self._sequence = itertools.count(last_sequence + 1)

    def accept(self, items: Items, priority: Priority, key: str | None = None) -> Accepted:
        """Take responsibility for `items`: durable first, then visible, then runnable.

        Raise `QueueFull`, `StorageUnavailable`, `Stopping`, or `IdempotencyMismatch`
        if `key` stands for something else.
        """
        self._check_not_stopping()
        ingestion = self._new(items, priority, next(self._sequence))
        claim = _idempotency_key(key, items, priority)
        try:
            self._reserve(len(items))
        except QueueFull:
            # What was accepted before is answered again, full or not.
            known = self._journal.known(claim, ingestion.created_at) if claim else None
            if known is None:
                raise
            return Accepted(known, replayed=True)
        try:
            ingestion_id = self._journal.accepted(ingestion, claim)
        except BaseException:
            self._store.release(len(items))
            raise
        if ingestion_id != ingestion.ingestion_id:
            self._store.release(len(items))
            return Accepted(ingestion_id, replayed=True)
        self._store.add(ingestion)
        self._worker.submit(ingestion)
        logs.event(
            "accepted",
            ingestion_id=ingestion_id,
            kind=items.kind,
            priority=priority.name,
            items=len(items),
        )
        return Accepted(ingestion_id, replayed=False)

    def status(self, ingestion_id: str, offset: int, limit: int) -> Snapshot:
        """Return the ingestion with the states of `limit` batches from batch `offset` on.

        Raise `IngestionNotFound`.
        """
        return self._snapshot(ingestion_id, range(offset, offset + limit))

    def await_change(self, snapshot: Snapshot, seconds: float) -> None:
        """Return when an ingestion is not any more as `snapshot` shows it, or after `seconds`.

        At once if it is finished, or if too many are waiting already.
        """
        if snapshot.finished_at is None and self._waiters.acquire(blocking=False):
            try:
                self._store.await_change(
                    self._clock, snapshot.ingestion_id, snapshot.version, seconds
                )
            finally:
                self._waiters.release()

    def release_waiters(self) -> None:
        """Answer all who wait for a change, and nobody waits from now on."""
        self._store.release_waiters()

    def prospects(self, ingestion_id: str) -> Prospects | None:
        """Return what an ingestion can expect; None if it is finished."""
        try:
            ingestion = self._store.find(ingestion_id)
        except IngestionNotFound:
            return None
        if ingestion.finished_at is not None:
            return None
        situation = self._worker.situation()
        wall = self._wall(situation)
        look = outlook(
            situation,
            self._pace,
            ingestion,
            forecast(situation, ingestion),
            self._worker.end_of(ingestion_id),
        )
        known = look.forecast
        changes_at = situation.now + UNKNOWN if look.changes_at is None else look.changes_at
        return Prospects(
            position=known.position if known else None,
            batches_ahead=known.batches_ahead if known else None,
            next_start_at=wall(known.next_start_at if known else None),
            finish_at=wall(look.finish_at),
            latest_finish_at=wall(known.latest_finish_at if known else None),
            code=look.why.code,
            message=look.why.message,
            until=wall(look.why.until),
            changes_in=max(0.0, changes_at - situation.now),
        )

    def plan(self, items: Items, priority: Priority) -> Plan:
        """Return what would become of a request if it were accepted now; store nothing.

        Raise as `accept` does.
        """
        self._check_not_stopping()
        self._reserve(len(items))
        self._store.release(len(items))
        now = self._clock.monotonic()
        ingestion = self._new(items, priority, sequence=LAST)
        entry = Entry(priority, LAST, ingestion, since=now, put_at=now)
        situation = self._worker.situation(entry)
        found = forecast(situation, ingestion)
        wall = self._wall(situation)
        return Plan(
            batches=ingestion.batches_total,
            batch_size=ingestion.batch_size,
            forecast=found,
            next_start_at=wall(found.next_start_at if found else None),
            finish_at=wall(found.finish_at if found else None),
            latest_finish_at=wall(found.latest_finish_at if found else None),
        )

    def queue(self) -> QueueReport:
        """Return the queue as a whole."""
        situation = self._worker.situation()
        wall = self._wall(situation)
        waiting = {
            each.ingestion.ingestion_id: each.ingestion
            for each in [*situation.line, *(due.entry for due in situation.retries)]
        }
        return QueueReport(
            health=self.health(),
            interval=self._pace.interval,
            policy=situation.rule.policy.value,
            depth={each: _depth(waiting.values(), each) for each in Priority},
            in_flight=self._worker.in_flight,
            upcoming=[
                (cast(datetime, wall(at)), entry.ingestion)
                for at, entry in upcoming(situation, UPCOMING)
            ],
        )

    def ingestions(
        self,
        before: int,
        limit: int,
        word: str | None,
        outcome: OutcomeWord | None,
        priority: Priority | None,
    ) -> list[Summary]:
        """Return the newest ingestions with a sequence below `before`, newest first."""
        since = self._clock.now() - self._retention
        found = self._journal.summaries(Wanted(before, limit, word, outcome, priority, since))
        return [self._up_to_date(each) for each in found]

    def rate_proof(self, since: datetime | None, until: datetime | None) -> RateProof:
        """Return what the starts in a period show; without bounds, all that are kept."""
        now = self._clock.now()
        return self._journal.rate_proof(
            since or now - self._retention - KEPT_LONGER, until or now + KEPT_LONGER
        )

    def stream(
        self, ingestion_id: str, wanted: Sequence[ItemState]
    ) -> tuple[Snapshot, Iterator[list[Result]]]:
        """Return all results, in pages that are read while they are consumed."""
        snapshot = self._snapshot(ingestion_id, None)

        def pages() -> Iterator[list[Result]]:
            first = 0
            while first < len(snapshot.states):
                positions = _find(snapshot.states, wanted, first, STREAM_PAGE)
                if not positions:
                    return
                yield self._results_at(snapshot, positions)
                first = positions[-1] + 1

        return snapshot, pages()

    def results(
        self, ingestion_id: str, wanted: Sequence[ItemState], offset: int, limit: int
    ) -> tuple[Snapshot, list[Result]]:
        """Return up to `limit` results in the order of the items, without the first `offset`.

        Only items in one of the states `wanted` count. Raise `IngestionNotFound`.
        """
        snapshot = self._snapshot(ingestion_id, None)
        found = _find(snapshot.states, wanted, 0, limit, skip=offset)
        return snapshot, self._results_at(snapshot, found)

    def _results_at(self, snapshot: Snapshot, positions: Sequence[int]) -> list[Result]:
        indices = {position // snapshot.batch_size for position in positions}
        settled = self._journal.results(snapshot.ingestion_id, indices)
        results = []
        for position in positions:
            found = settled.get(divmod(position, snapshot.batch_size))
            # Not there if its retention has ended while it was read.
            if found is not None:
                (key,) = snapshot.items.keys(position, position + 1)
                results.append(Result(key, found.outcome, found.at))
        return results

    def check_ready(self) -> None:
        """Return if work is taken and done; raise `Stopping` or `StorageUnavailable` if not."""
        self._check_not_stopping()
        if not self._worker.alive:
            raise Stopping("The worker thread does not run.")
        self._journal.check()

    def _snapshot(self, ingestion_id: str, batches: range | None) -> Snapshot:
        """Look in memory, then in the journal, where the finished ones stay longer."""
        try:
            snapshot = self._store.snapshot(ingestion_id, batches)
        except IngestionNotFound:
            ingestion = self._journal.find(ingestion_id)
            if ingestion is None:
                raise
            snapshot = snapshot_of(ingestion, batches)
        expires = self._clock.now() - self._retention
        if snapshot.finished_at is not None and snapshot.finished_at < expires:
            raise IngestionNotFound
        return snapshot

    def health(self) -> Health:
        """Return how the service is, without touching the work."""
        now, wall = self._clock.monotonic(), self._clock.now()
        state, reason, until = "running", None, None
        closed_until = self._pace.closed_until
        if self._pace.paused is not None:
            state, reason = "paused", self._pace.paused
        elif closed_until > now:
            state, until = "held", wall + timedelta(seconds=closed_until - now)
            lost = self._worker.lost
            reason = "the upstream cannot be reached" if lost else "the upstream asked for it"
        return Health(
            at=wall,
            worker_alive=self._worker.alive,
            unfinished=self._store.unfinished,
            queued_items=self._store.queued_items,
            state=state,
            reason=reason,
            until=until,
        )

    def _check_not_stopping(self) -> None:
        if self._worker.stopping:
            raise Stopping("The service is stopping and takes no new work.")

    def _new(self, items: Items, priority: Priority, sequence: int) -> Ingestion:
        return Ingestion(
            ingestion_id=new_ingestion_id(),
            sequence=sequence,
            priority=priority,
            items=items,
            batch_size=self._batch_sizes[items.kind],
            created_at=self._clock.now(),
        )

    def _wall(self, situation: Situation) -> Callable[[float | None], datetime | None]:
        """Return what turns monotonic instants into times for people.

        The same instant is always the same time, unless somebody sets the clock.
        """
        zero = self._clock.now() - timedelta(seconds=situation.now)
        if abs(zero - self._zero) > CLOCK_JITTER:
            self._zero = zero

        def wall(instant: float | None) -> datetime | None:
            if instant is None or not math.isfinite(instant):
                return None
            try:
                return self._zero + timedelta(seconds=instant)
            except OverflowError:
                # Beyond all calendars.
                return None

        return wall

    def _up_to_date(self, summary: Summary) -> Summary:
        """Return a summary with what only the store knows while an ingestion is unfinished."""
        try:
            return summary_of(self._store.find(summary.ingestion_id))
        except IngestionNotFound:
            return summary

    def _reserve(self, items: int) -> None:
        excess = self._store.reserve(items, self._max_queued_items)
        if excess:
            slots = slots_until_started(self._store.waiting(), excess)
            room_at = self._pace.opens_at(self._line.filled_at) + (slots - 1) * self._pace.interval
            raise QueueFull(max(0.0, room_at - self._clock.monotonic()))


def _idempotency_key(key: str | None, items: Items, priority: Priority) -> IdempotencyKey | None:
    if key is None:
        return None
    content = f"{items.kind} {priority.name} ".encode() + items.to_bytes()
    return IdempotencyKey(key, hashlib.sha256(content).digest())


def _find(
    states: bytes, wanted: Sequence[ItemState], first: int, limit: int, skip: int = 0
) -> list[int]:
    """Return up to `limit` positions of the states `wanted` from `first` on, without `skip`."""
    found: list[int] = []
    for start in range(first, len(states), 4096):
        chunk = states[start : start + 4096]
        # Counting runs at the speed of memory, so whole chunks are skipped that way.
        hits = sum(chunk.count(state) for state in wanted)
        if skip >= hits:
            skip -= hits
            continue
        found += [start + at for at, state in enumerate(chunk) if state in wanted][skip:]
        skip = 0
        if len(found) >= limit:
            break
    return found[:limit]


def _depth(waiting: Iterable[Ingestion], priority: Priority) -> Depth:
    mine = [each for each in waiting if each.priority is priority]
    return Depth(
        batches=sum(each.left for each in mine),
        items=sum(each.counts.queued for each in mine),
        ingestions=len(mine),
        oldest_at=min((each.created_at for each in mine), default=None),
    )
