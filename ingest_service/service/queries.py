"""The read side: everything that can be asked, in times for people."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from ingest_service.clock import Clock
from ingest_service.domain.caller import ANYBODY, Caller
from ingest_service.domain.history import period
from ingest_service.domain.ingestion import IngestionSnapshot
from ingest_service.domain.model import ItemState
from ingest_service.domain.runs import upcoming
from ingest_service.domain.slot_times import SlotTimes
from ingest_service.domain.snapshot import Place, QueueSnapshot, TakenSlot, WorkerState
from ingest_service.domain.wait_reason import standstill, wait_reason
from ingest_service.engines import (
    Following,
    ListQuery,
    RateProof,
    Reading,
    Records,
    Result,
    visible,
)
from ingest_service.engines.audit import AuditEntry, AuditQuery
from ingest_service.engines.history import History
from ingest_service.errors import IngestionNotFound, Stopping, StorageUnavailable
from ingest_service.service.calendar import Calendar, Wall
from ingest_service.service.reports import (
    BatchInFlight,
    ComingSlot,
    Estimate,
    Eta,
    Health,
    Measurements,
    PastSlot,
    QueueReport,
)

#: How many may wait for a change at a time; each occupies a thread of the server.
MAX_WAITERS = 64
#: How many slots to come the queue tells.
UPCOMING = 60
#: When to look again if nobody knows when something will change, in seconds.
UNKNOWN = 30.0
#: How many results are read at a time while they are streamed.
STREAM_PAGE = 3_000

_NO_BATCHES = range(0)


class Queries:
    """Looks, and never changes anything.

    What does not exist for the caller is an `IngestionNotFound`, and in no list.
    """

    def __init__(
        self, clock: Clock, reading: Reading, following: Following, records: Records
    ) -> None:
        self._clock = clock
        self._reading = reading
        self._following = following
        self._records = records
        self._calendar = Calendar()
        self._waiters = threading.BoundedSemaphore(MAX_WAITERS)

    # --- One ingestion ---

    def status(
        self, ingestion_id: str, offset: int = 0, limit: int = 0, caller: Caller = ANYBODY
    ) -> IngestionSnapshot:
        """Return the ingestion with the items of `limit` batches from batch `offset` on.

        Raise `IngestionNotFound`.
        """
        return self._find(ingestion_id, caller, range(offset, offset + limit))

    def is_at_hand(self, ingestion_id: str | None = None) -> bool:
        """Tell whether `status` needs no disk, most likely; see `Following`."""
        return self._following.is_at_hand(ingestion_id)

    def estimate(self, ingestion_id: str) -> Estimate | None:
        """Return what an ingestion can expect; None if it is finished."""
        try:
            snapshot = self._reading.snapshot(ingestion_id)
        except IngestionNotFound:
            return None
        place = snapshot.place
        if place is None:
            return None
        reason, wall = wait_reason(snapshot, place), self._calendar.of(snapshot)
        starts_at = place.forecast.next_start_at if place.forecast else None
        changes = [at for at in (place.under_way_until, starts_at) if at is not None]
        return Estimate(
            eta=_eta(place, wall),
            code=reason.code,
            message=reason.message,
            until=wall(reason.until),
            changes_in=max(0.0, min(changes) - snapshot.now) if changes else UNKNOWN,
        )

    def eta(self, snapshot: QueueSnapshot) -> Eta:
        """Return when what the place in `snapshot` tells about will run."""
        if snapshot.place is None:
            return Eta()
        return _eta(snapshot.place, self._calendar.of(snapshot))

    def await_change(self, snapshot: IngestionSnapshot, seconds: float) -> None:
        """Return when an ingestion is not any more as `snapshot` shows it, or after `seconds`.

        At once if too many are waiting already.
        """
        if self._waiters.acquire(blocking=False):
            try:
                self._await(snapshot, seconds)
            finally:
                self._waiters.release()

    def watch(
        self, ingestion_id: str, version: int, on_change: Callable[[], None]
    ) -> Callable[[], None]:
        """Call `on_change` once when an ingestion is not at `version`; see `Following`."""
        return self._following.watch(ingestion_id, version, on_change)

    # --- Results ---

    def results(
        self,
        ingestion_id: str,
        wanted: Sequence[ItemState],
        offset: int,
        limit: int,
        caller: Caller = ANYBODY,
        *,
        after: int = -1,
    ) -> tuple[IngestionSnapshot, list[Result]]:
        """Return up to `limit` results in the order of the items, without the first `offset`.

        Only items in one of the states `wanted` and behind position `after` count. Raise
        `IngestionNotFound`.
        """
        snapshot = self._find(ingestion_id, caller)
        page = self._reading.results(ingestion_id, wanted, offset=offset, limit=limit, after=after)
        return snapshot, page

    def stream(
        self, ingestion_id: str, wanted: Sequence[ItemState], caller: Caller = ANYBODY
    ) -> tuple[IngestionSnapshot, Iterator[list[Result]]]:
        """Return all results, in pages that are read while they are consumed.

        Reading them raises `IngestionNotFound` if it is deleted, or its retention ends,
        meanwhile: what has come so far is not all.
        """
        snapshot = self._find(ingestion_id, caller)
        read = partial(self._reading.results, ingestion_id, wanted, limit=STREAM_PAGE)

        def pages() -> Iterator[list[Result]]:
            after = -1
            while page := read(after=after):
                yield page
                after = page[-1].position

        return snapshot, pages()

    # --- All of them ---

    def ingestions(self, query: ListQuery, caller: Caller = ANYBODY) -> list[IngestionSnapshot]:
        """Return the newest ingestions that `query` describes, newest first."""
        if caller.own_only:
            if query.submitted_by not in (None, caller.key):
                return []
            query = replace(query, submitted_by=caller.key)
        return self._reading.ingestions(query)

    def queue(self, caller: Caller = ANYBODY) -> QueueReport:
        """Return the queue as a whole, without the ids of what does not exist for the caller."""
        snapshot = self._reading.snapshot()
        coming = upcoming(snapshot, UPCOMING)
        ids = {entry.ingestion_id for _, entry in coming}
        ids |= {batch.ingestion_id for batch in snapshot.in_flight}
        ids |= {slot.ingestion_id for slot in snapshot.taken}
        hidden, wall = self._hidden(ids, caller), self._calendar.of(snapshot)
        slots = [
            ComingSlot(at, _unless(hidden, entry.ingestion_id), entry.priority)
            for instant, entry in coming
            if (at := wall(instant)) is not None
        ]
        return QueueReport(
            health=self._health(snapshot),
            interval=snapshot.pace.interval,
            policy=snapshot.rule.policy.value,
            depth=dict(snapshot.totals),
            in_flight=[
                BatchInFlight(None, None, batch.items, batch.attempt)
                if batch.ingestion_id in hidden
                else BatchInFlight(*batch)
                for batch in snapshot.in_flight
            ],
            taken=[_told(slot, hidden) for slot in snapshot.taken],
            upcoming=slots,
            empty_at=wall(_empty_at(snapshot)),
        )

    def rate_proof(
        self, since: datetime | None, until: datetime | None, caller: Caller = ANYBODY
    ) -> RateProof:
        """Return what the starts in a period show; without bounds, all that are kept.

        The first violations are told only to whom everything exists for.
        """
        proof = self._records.rate_proof(since, until)
        return replace(proof, examples=()) if caller.own_only else proof

    def history(
        self, since: datetime | None, until: datetime | None, step: timedelta | None
    ) -> History:
        """Return what happened in a period; without bounds, in the last hour.

        Raise `PeriodError` if it cannot be told.
        """
        return self._records.history(*period(since, until, step, self._clock.now()))

    def audit(self, query: AuditQuery, caller: Caller = ANYBODY) -> list[AuditEntry]:
        """Return who did what, newest first; a caller that sees only its own, what it did."""
        if caller.own_only:
            if query.key not in (None, caller.key):
                return []
            query = replace(query, key=caller.key)
        return self._records.audit(query)

    def audit_stream(
        self, query: AuditQuery, caller: Caller = ANYBODY
    ) -> Iterator[list[AuditEntry]]:
        """Return all that `query` describes, in pages that are read while they are consumed."""
        query = replace(query, limit=STREAM_PAGE)
        # At once, so that a journal that cannot be read is told before the answer begins.
        first = self.audit(query, caller)

        def pages() -> Iterator[list[AuditEntry]]:
            page = first
            while page:
                yield page
                page = self.audit(replace(query, before=page[-1].place), caller)

        return pages()

    # --- The service ---

    def measurements(self) -> Measurements:
        """Return what a monitoring system collects."""
        return Measurements(
            self._reading.snapshot(), self._records.totals(), self._records.vitals()
        )

    def health(self) -> Health:
        """Return how the service is, without touching the work."""
        return self._health(self._reading.snapshot())

    def check_ready(self) -> None:
        """Return if work is taken and done; raise `Stopping` or `StorageUnavailable` if not."""
        worker = self._reading.snapshot().worker
        if worker.stopping:
            raise Stopping("The service is stopping and takes no new work.")
        if worker.processes == 0:
            raise Stopping("No worker: nothing is sent before one is started.")
        if not worker.alive:
            raise Stopping("The worker thread does not run.")
        self._records.check()
        if (shortage := self._reading.shortage()) is not None:
            raise StorageUnavailable(shortage)
        if worker.trouble is not None:
            raise Stopping(f"The worker cannot work: {worker.trouble}")

    def _find(
        self, ingestion_id: str, caller: Caller, batches: range = _NO_BATCHES
    ) -> IngestionSnapshot:
        return visible(self._reading.find(ingestion_id, batches), caller)

    def _hidden(self, ids: set[str], caller: Caller) -> set[str]:
        """Return those of `ids` that do not exist for the caller."""
        if not caller.own_only:
            return set()
        return {ingestion_id for ingestion_id in ids if not self._exists(ingestion_id, caller)}

    def _exists(self, ingestion_id: str, caller: Caller) -> bool:
        try:
            self._find(ingestion_id, caller)
        except IngestionNotFound:
            return False
        return True

    def _health(self, snapshot: QueueSnapshot) -> Health:
        still, worker = standstill(snapshot), snapshot.worker
        return Health(
            at=snapshot.at,
            worker_alive=worker.alive,
            workers=_workers(worker),
            trouble=worker.trouble or self._reading.shortage() or worker.upstream_trouble,
            unfinished=snapshot.unfinished,
            queued_items=snapshot.queued_items,
            state=still.state,
            reason=still.reason,
            until=self._calendar.of(snapshot)(still.until),
        )

    def _await(self, snapshot: IngestionSnapshot, seconds: float) -> None:
        condition, changed = threading.Condition(), False

        def on_change() -> None:
            nonlocal changed
            with condition:
                changed = True
                condition.notify_all()

        end = self._following.watch(snapshot.ingestion_id, snapshot.version, on_change)
        try:
            with condition:
                self._clock.wait_for(condition, lambda: changed, seconds)
        finally:
            end()


def _eta(place: Place, wall: Wall) -> Eta:
    ahead, finish_at = place.forecast, wall(_finish_at(place))
    if ahead is None:
        return Eta(finish_at=finish_at)
    return Eta(
        position=ahead.position,
        batches_ahead=ahead.batches_ahead,
        next_start_at=wall(ahead.next_start_at),
        finish_at=finish_at,
        latest_finish_at=wall(ahead.latest_finish_at),
    )


def _unless(hidden: set[str], ingestion_id: str) -> str | None:
    return None if ingestion_id in hidden else ingestion_id


def _told(slot: TakenSlot, hidden: set[str]) -> PastSlot:
    """Return what may be told of a slot to whom some ingestions do not exist for."""
    told = PastSlot(*slot)
    return told._replace(ingestion_id=None, batch_id=None) if slot.ingestion_id in hidden else told


def _workers(worker: WorkerState) -> int:
    return int(worker.alive) if worker.processes is None else worker.processes


def _finish_at(place: Place) -> float | None:
    """Return when everything has ended, None if nobody knows."""
    if not place.batches and place.retry_due is None:
        return place.under_way_until
    if place.forecast is None:
        return None
    return max(place.forecast.finish_at, place.under_way_until or -math.inf)


def _empty_at(snapshot: QueueSnapshot) -> float | None:
    """Return when everything has ended, if nothing is added; None if nobody knows."""
    model = snapshot.model
    left = sum(totals.batches for totals in snapshot.totals.values()) + len(snapshot.retries)
    if not left:
        return max(model.ends, default=None)
    if not snapshot.has_times:
        return None
    last_at = SlotTimes(model, snapshot.now).at(left - 1)
    last_retry = max((retry.due for retry in snapshot.retries), default=last_at)
    return max(last_at, last_retry) + model.duration
