"""What must outlive the moment: accepted requests, started batches, outcomes."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import orjson

from ingest_service.errors import IdempotencyMismatch
from ingest_service.model import Batch, Ingestion, Outcome

#: How long an idempotency key is remembered.
KEY_LIFETIME = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """What a client calls its request, and a digest of what the request asks for."""

    key: str
    digest: bytes


class Settled(NamedTuple):
    """One batch that has ended."""

    at: datetime
    #: One an item, in the order of the items.
    outcomes: Sequence[Outcome]


class Journal(Protocol):
    """Append first, act second: a caller acts only once the record has returned."""

    def accepted(self, ingestion: Ingestion, key: IdempotencyKey | None) -> str:
        """Record an ingestion together with its key; return the id that the key stands for.

        That is another ingestion's id, and nothing is recorded, when the key was
        used within `KEY_LIFETIME`; `IdempotencyMismatch` if for something else.
        """
        ...

    def slot_taken(self, batch: Batch, at: datetime) -> None:
        """Record that `batch` is started at `at`, before the upstream hears of it."""
        ...

    def settled(self, batch: Batch, settled: Settled) -> None:
        """Record what became of the items of `batch`."""
        ...

    def results(self, ingestion_id: str, indices: Iterable[int]) -> dict[int, Settled]:
        """Return what was settled of the batches at `indices`, by index."""
        ...


class MemoryJournal:
    """Keeps everything as long as the process lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, tuple[IdempotencyKey, str, datetime]] = {}
        self._results: dict[str, dict[int, tuple[datetime, bytes]]] = {}

    def accepted(self, ingestion: Ingestion, key: IdempotencyKey | None) -> str:
        """Remember the key; the ingestion itself is in the store."""
        with self._lock:
            if key is not None:
                self._forget_keys(ingestion.created_at - KEY_LIFETIME)
                known, ingestion_id, _ = self._keys.setdefault(
                    key.key, (key, ingestion.ingestion_id, ingestion.created_at)
                )
                if known.digest != key.digest:
                    raise IdempotencyMismatch
                if ingestion_id != ingestion.ingestion_id:
                    return ingestion_id
            self._results[ingestion.ingestion_id] = {}
            return ingestion.ingestion_id

    def slot_taken(self, batch: Batch, at: datetime) -> None:
        """Nothing to do: a restart forgets the pace together with the work."""

    def settled(self, batch: Batch, settled: Settled) -> None:
        """Keep the outcomes, as text: a hundred bytes an item instead of a thousand."""
        text = orjson.dumps(
            [(each.succeeded, each.processed_data, each.error) for each in settled.outcomes]
        )
        with self._lock:
            self._results[batch.ingestion_id][batch.index] = settled.at, text

    def results(self, ingestion_id: str, indices: Iterable[int]) -> dict[int, Settled]:
        """Return what was settled of the batches at `indices`."""
        with self._lock:
            kept = self._results.get(ingestion_id, {})
            found = {index: kept[index] for index in indices if index in kept}
        return {
            index: Settled(at, [Outcome(*each) for each in orjson.loads(text)])
            for index, (at, text) in found.items()
        }

    def _forget_keys(self, before: datetime) -> None:
        # Oldest first: a dictionary keeps the order in which keys came.
        while self._keys:
            oldest = next(iter(self._keys))
            if self._keys[oldest][2] > before:
                return
            del self._keys[oldest]
