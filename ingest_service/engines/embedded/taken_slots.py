"""The last slots that were taken, and what became of the batches they served."""

from collections import OrderedDict
from datetime import datetime

from ingest_service.domain.ingestion import Ingestion
from ingest_service.domain.model import Batch, ItemState
from ingest_service.domain.snapshot import KEPT_SLOTS, TakenSlot


class TakenSlots:
    """Changed and read by whoever holds the engine's lock; what was before a start is not here."""

    def __init__(self) -> None:
        #: By the batch and which start of it.
        self._slots: OrderedDict[tuple[str, int], TakenSlot] = OrderedDict()

    def add(self, ingestion: Ingestion, batch: Batch, at: datetime) -> None:
        """Note that a slot was taken for `batch`."""
        self._slots[batch.batch_id, batch.start_no] = TakenSlot(
            at, None, batch.ingestion_id, batch.batch_id, ingestion.priority, len(batch.offsets)
        )
        if len(self._slots) > KEPT_SLOTS:
            self._slots.popitem(last=False)

    def note_end(self, batch: Batch, states: bytes, at: datetime) -> None:
        """Note in what states it left its items; what was taken too long ago does not matter."""
        name = batch.batch_id, batch.start_no
        slot = self._slots.get(name)
        if slot is not None:
            self._slots[name] = slot._replace(
                ended_at=at,
                succeeded=states.count(ItemState.SUCCEEDED),
                failed=states.count(ItemState.FAILED),
                retried=states.count(ItemState.RETRYING),
            )

    def all(self) -> tuple[TakenSlot, ...]:
        """Return them, oldest first."""
        return tuple(self._slots.values())
