"""How the machinery behind the queue is, for whoever watches it."""

from collections.abc import Mapping
from dataclasses import dataclass

from ingest_service.domain.rollup import Counts


@dataclass(frozen=True, slots=True)
class StorageVitals:
    """What the storage has done since the process began."""

    #: See `rollup.COMMIT` and `rollup.GROUP`.
    counts: Counts
    #: How large its files are, by what they are for.
    file_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is counted since the process began, and what there is now."""

    storage: StorageVitals
    #: Requests that wait for a change of an ingestion.
    watches: int
    #: Slots that opened and were not used, and those that did not open; None if nobody counts.
    slots_idle: float | None = None
    slots_held: float | None = None
