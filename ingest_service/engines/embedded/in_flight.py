"""The batches under way: which, since when, until when as far as one can tell."""

import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ingest_service.domain.model import Batch
from ingest_service.domain.slot_times import expected_end
from ingest_service.domain.snapshot import BatchUnderWay
from ingest_service.engines import Slot


@dataclass(slots=True)
class _UnderWay:
    slot: Slot
    #: When it ends (monotonic); None if only the upstream knows.
    ends_at: float | None = None
    #: Whether it is still on its way to the upstream.
    starting: bool = True


class InFlightBatches:
    """All of them, changed and read by whoever holds the engine's lock."""

    def __init__(self, latency: Callable[[], float | None]) -> None:
        #: Tells how long a batch takes in seconds, None if that is not known beforehand.
        self._latency = latency
        self._by_slot: dict[int, _UnderWay] = {}
        #: How long the last ones took.
        self._durations: deque[float] = deque(maxlen=100)
        #: Their median, None until it is asked for.
        self._typical: float | None = 0.0

    def __len__(self) -> int:
        return len(self._by_slot)

    def __contains__(self, slot: Slot) -> bool:
        return slot.number in self._by_slot

    def batches(self) -> tuple[BatchUnderWay, ...]:
        """Return what there is to tell about each."""
        return tuple([_told(under_way.slot.batch) for under_way in self._by_slot.values()])

    def add(self, slot: Slot) -> None:
        """Note a batch that was started, and is not sent yet."""
        self._by_slot[slot.number] = _UnderWay(slot)

    def note_called(self, slot: Slot, ends_at: float | None) -> None:
        """Note that the upstream has a batch; it ends at `ends_at` if that is known."""
        under_way = self._by_slot.get(slot.number)
        if under_way is not None:
            under_way.starting, under_way.ends_at = False, ends_at

    def remove(self, slot: Slot, ended_at: float) -> None:
        """Forget a batch that has ended."""
        del self._by_slot[slot.number]
        self._durations.append(ended_at - slot.at)
        self._typical = None

    def is_starting(self, ingestion_id: str | None = None) -> bool:
        """Tell whether a batch (of one ingestion) is between its record and the upstream."""
        return any(
            under_way.starting and ingestion_id in (None, under_way.slot.batch.ingestion_id)
            for under_way in self._by_slot.values()
        )

    @property
    def duration(self) -> float:
        """How long a batch takes, as far as one can tell."""
        latency = self._latency()
        if latency is not None:
            return latency
        if self._typical is None:
            self._typical = statistics.median(self._durations)
        return self._typical

    def ends(self, now: float) -> tuple[float, ...]:
        """Return when each will have ended, as far as one can tell."""
        if not self._by_slot:
            return ()
        return tuple(self._end_of(under_way, now) for under_way in self._by_slot.values())

    def end_of(self, ingestion_id: str, now: float) -> float | None:
        """Return when what is under way of an ingestion will have ended, None if nothing is."""
        ends = [
            self._end_of(under_way, now)
            for under_way in self._by_slot.values()
            if under_way.slot.batch.ingestion_id == ingestion_id
        ]
        return max(ends, default=None)

    def _end_of(self, under_way: _UnderWay, now: float) -> float:
        if under_way.ends_at is not None:
            return max(now, under_way.ends_at)
        return expected_end(under_way.slot.at, self.duration, now)


def _told(batch: Batch) -> BatchUnderWay:
    return BatchUnderWay(batch.ingestion_id, batch.batch_id, len(batch.offsets), batch.attempt)
