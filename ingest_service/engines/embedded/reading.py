"""Telling about it: frozen pictures, taken under the lock, finished outside of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from ingest_service.domain.forecast import forecast
from ingest_service.domain.ingestion import Ingestion, IngestionSnapshot
from ingest_service.domain.model import FAMILIES, ItemState
from ingest_service.domain.policy import Policy, QueueEntry
from ingest_service.domain.runs import Moment, joined_by, walked
from ingest_service.domain.slot_times import SlotModel, SlotTimes
from ingest_service.domain.snapshot import Forecast, Place, QueueSnapshot
from ingest_service.engines import Draft, ListQuery, Result
from ingest_service.engines.embedded.core import Core
from ingest_service.engines.embedded.journal import FinishedQuery, Results
from ingest_service.engines.offsets import find_states
from ingest_service.errors import IngestionNotFound

T = TypeVar("T")

#: A sequence after all others.
LAST = 2**62
#: How many ingestions are looked at under the lock at a time.
_CHUNK = 500
_NO_BATCHES = range(0)


class EmbeddedReading:
    """See `Reading`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        #: The forecasts of everything under the aged policy, and what they are of.
        self._walked: tuple[tuple[int, SlotModel, float] | None, dict[int, Forecast]] = (None, {})

    def find(self, ingestion_id: str, batches: range) -> IngestionSnapshot:
        """Look in memory, then in the journal, where the finished ones stay longer."""
        return self._steady(lambda: self._find(ingestion_id, batches))

    def _find(self, ingestion_id: str, batches: range) -> IngestionSnapshot:
        core = self._core
        with core.lock:
            ingestion = core.remembered(ingestion_id)
        if ingestion is not None:
            # They never change, so not under the lock: there can be a million.
            keys = ingestion.submission.keys(batches)
            with core.lock:
                return ingestion.snapshot(batches, keys)
        stored = core.journal.find(ingestion_id, batches)
        if stored is None or core.is_expired(stored.finished_at):
            raise IngestionNotFound
        return stored

    def snapshot(self, of: str | Draft | None = None) -> QueueSnapshot:
        """Take the picture; what an ingestion can expect is added up under the same lock."""
        core = self._core
        with core.lock:
            moment = self._moment(of)
            asked = self._asked(of, moment.now)
            if asked is None:
                return self._picture(moment, None)
            entry, joining = asked
            if moment.rule.policy is not Policy.AGED:
                ahead = forecast(moment, core.state.index, core.state.retries(), entry, joining)
                return self._picture(moment, self._place(entry, moment.now, ahead))
            place = self._place(entry, moment.now, None)
            snapshot = self._picture(moment, place)
            of_what, forecasts = self._walked
            # Besides what waits, a hold, a pause or another interval make it stale, and time does
            # where the next slot is late; then a second is near enough.
            next_at = SlotTimes(moment.model, moment.now).at(0) // 1
            current = core.state.version, moment.model, next_at
            stale = bool(joining) or of_what != current
            lines = core.state.index.lines() if stale else tuple
        if stale:
            # A walk through everything, so not under the lock; once a version is enough.
            forecasts = walked(moment, joined_by(entry, lines(), joining), snapshot.retries)
            if not joining:
                self._walked = current, forecasts
        return snapshot._replace(place=place._replace(forecast=forecasts.get(entry.sequence)))

    def _asked(self, of: str | Draft | None, now: float) -> tuple[QueueEntry, int] | None:
        """Return what stands at the place asked for, and how many batches would join."""
        if of is None:
            return None
        if isinstance(of, Draft):
            return QueueEntry(LAST, of.priority, now, "", of.batches_total), of.batches_total
        ingestion = self._core.remembered(of)
        if ingestion is None or ingestion.finished_at is not None:
            return None
        return self._core.state.entry(ingestion, now), 0

    def _place(self, entry: QueueEntry, now: float, ahead: Forecast | None) -> Place:
        state = self._core.state
        ingestion = state.get(entry.ingestion_id)
        return Place(
            sequence=entry.sequence,
            priority=entry.priority,
            batches=entry.batches,
            retry_due=state.retry_due(ingestion) if ingestion else None,
            under_way_until=state.in_flight.end_of(entry.ingestion_id, now),
            forecast=ahead,
        )

    def results(
        self,
        ingestion_id: str,
        wanted: Sequence[ItemState],
        *,
        offset: int = 0,
        limit: int,
        after: int = -1,
    ) -> list[Result]:
        """Find the positions by the states; read the outcomes of just these."""
        return self._steady(lambda: self._results(ingestion_id, wanted, offset, limit, after))

    def _results(
        self, ingestion_id: str, wanted: Sequence[ItemState], offset: int, limit: int, after: int
    ) -> list[Result]:
        with self._core.lock:
            ingestion = self._core.remembered(ingestion_id)
            states = bytes(ingestion.item_states) if ingestion else b""
        batch_size = ingestion.submission.batch_size if ingestion else 0
        if ingestion is None:
            batch_size = self._find(ingestion_id, _NO_BATCHES).batch_size
            states = self._core.journal.item_states(ingestion_id)
        positions = find_states(states, wanted, after + 1, limit, skip=offset)
        indices = sorted({position // batch_size for position in positions})
        settled = self._core.journal.results(ingestion_id, indices)
        keys = (
            {index: ingestion.submission.keys(range(index, index + 1)) for index in indices}
            if ingestion
            else self._core.journal.keys(ingestion_id, indices)
        )
        results = list(_paired(positions, batch_size, settled, keys))
        if not states or len(results) < len(positions):
            self._check_kept(ingestion_id)
        return results

    def _check_kept(self, ingestion_id: str) -> None:
        """Raise `IngestionNotFound` if it is deleted, even if memory does not know that yet."""
        core = self._core
        with core.lock:
            ingestion = core.state.get(ingestion_id)
            kept = ingestion is not None and (
                ingestion.finished_at is None or ingestion is core.state.reopening
            )
        if not kept and core.journal.find(ingestion_id, _NO_BATCHES) is None:
            raise IngestionNotFound

    def shortage(self) -> str | None:
        """Ask the journal."""
        return self._core.journal.shortage()

    def ingestions(self, query: ListQuery) -> list[IngestionSnapshot]:
        """Merge the unfinished ones, which memory knows best, with those the journal has ended."""
        of_journal = FinishedQuery(
            before=query.before,
            limit=query.limit,
            finished_since=self._core.expiry(),
            priority=query.priority,
            word=query.word,
            outcome=query.outcome,
            submitted_by=query.submitted_by,
        )

        def look() -> list[IngestionSnapshot]:
            # In this order: what changes sides in between is in both, and not in neither.
            newest = {entry.sequence: entry for entry in self._reopening(query)}
            newest |= {entry.sequence: entry for entry in self._unfinished(query)}
            if not query.unfinished:
                newest |= {
                    entry.sequence: entry for entry in self._core.journal.finished(of_journal)
                }
            return [newest[number] for number in sorted(newest, reverse=True)[: query.limit]]

        return self._steady(look)

    def _steady(self, look: Callable[[], T]) -> T:
        """Return what `look` finds in memory and then in the journal.

        Once more if something finished was opened again meanwhile: that goes the other way.
        """
        state = self._core.state
        while True:
            before = state.reopenings
            try:
                answer = look()
            except IngestionNotFound:
                if before == state.reopenings:
                    raise
                continue
            if before == state.reopenings:
                return answer

    def _moment(self, of: str | Draft | None) -> Moment:
        """Return what decides from now on; a newcomer to an empty queue fills it."""
        core, state, now = self._core, self._core.state, self._core.clock.monotonic()
        fills = isinstance(of, Draft) and not any(state.index.front())
        model = core.slot_model(now, now if fills else state.filled_at)
        return Moment(now, core.options.rule, model, state.slots)

    def _picture(self, moment: Moment, place: Place | None) -> QueueSnapshot:
        core, state = self._core, self._core.state
        return QueueSnapshot(
            now=moment.now,
            at=core.clock.now(),
            rule=moment.rule,
            pace=state.pace,
            model=moment.model,
            slots=moment.slot,
            totals=state.index.totals(),
            front=state.index.front(),
            retries=state.retries(),
            in_flight=state.in_flight.batches(),
            unfinished=state.unfinished(),
            worker=core.worker_state(),
            taken=state.taken.all(),
            place=place,
        )

    def _reopening(self, query: ListQuery) -> list[IngestionSnapshot]:
        with self._core.lock:
            ingestion = self._core.state.reopening
            if ingestion is None or ingestion.sequence >= query.before:
                return []
            return [ingestion.snapshot(_NO_BATCHES)] if _fits(ingestion, query) else []

    def _unfinished(self, query: ListQuery) -> list[IngestionSnapshot]:
        chosen: list[IngestionSnapshot] = []
        before = query.before
        while len(chosen) < query.limit:
            with self._core.lock:
                ingestions = self._core.state.unfinished_before(before, _CHUNK)
                fitting = [ingestion for ingestion in ingestions if _fits(ingestion, query)]
                snapshots = [ingestion.snapshot(_NO_BATCHES) for ingestion in fitting]
            if not ingestions:
                break
            before = ingestions[-1].sequence
            chosen += snapshots
        return chosen[: query.limit]


def _fits(ingestion: Ingestion, query: ListQuery) -> bool:
    words = FAMILIES[ingestion.submission.kind].words
    return (
        query.outcome in (None, ingestion.counts.outcome)
        and query.priority in (None, ingestion.priority)
        and query.word in (None, words[ingestion.counts.status])
        and not (query.unfinished and ingestion.counts.status.final)
        and query.submitted_by in (None, ingestion.submission.submitted_by)
    )


def _paired(
    positions: Sequence[int],
    batch_size: int,
    settled: Results,
    keys: Mapping[int, Sequence[int | str]],
) -> Iterator[Result]:
    for position in positions:
        index, offset = divmod(position, batch_size)
        result = settled.get((index, offset))
        # Not there if it is deleted, or opened again, while it is read.
        if result is not None and index in keys:
            yield Result(position, keys[index][offset], result.outcome, result.at)
