"""How far behind its slot a batch goes out: never before, and hardly after."""

import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks._measure import Row, Table, seconds
from ingest_service.app import build
from ingest_service.clock import SystemClock
from ingest_service.domain.items import Ids, Kind
from ingest_service.domain.model import Batch, Priority
from ingest_service.settings import IN_MEMORY, Settings
from ingest_service.upstreams.protocol import FinishedCall, OnNews
from ingest_service.upstreams.simulated import SimulatedUpstream

SLOTS = 1_000
INTERVAL = 0.1
LATENCY = 0.02
#: Seconds behind the slot, at most.
MEDIAN, P99 = 0.001, 0.005


class RecordingUpstream(SimulatedUpstream):
    """Notes when it is called."""

    def __init__(self) -> None:
        super().__init__(SystemClock(), LATENCY, dict.fromkeys(Kind, 1.0), seed=1)
        self.calls: list[float] = []

    def start(self, batch: Batch, on_news: OnNews) -> FinishedCall:
        """Note the moment first."""
        self.calls.append(time.monotonic())
        return super().start(batch, on_news)


class _Gaps(NamedTuple):
    """Seconds from one start to the next, less the interval."""

    least: float
    median: float
    p99: float


def tables(slots: int = SLOTS) -> Iterator[Table]:
    """Let so many slots pass with a journal, and a tenth of them without one and by sleep alone."""
    with TemporaryDirectory() as folder:
        durable = _behind(str(Path(folder) / "ingest.sqlite3"), slots)
    memory, slept = _behind(IN_MEMORY, slots // 10), _asleep(slots // 10)
    rows = [
        Row("median", durable.median, "aim", MEDIAN, 1),
        Row("99th percentile", durable.p99, "aim", P99, 1),
        Row("median, in memory", memory.median, "aim", MEDIAN, 1),
        Row("median, sleep alone", slept.median, "aim", MEDIAN),
        Row("99th percentile, sleep alone", slept.p99, "aim", P99),
        Row("shortest gap", INTERVAL + durable.least, "interval", INTERVAL, at_least=1),
    ]
    yield Table(f"Behind the slot, {slots:,} slots at {INTERVAL} s", seconds, rows)


def _behind(journal: str, slots: int) -> _Gaps:
    settings = Settings(interval=INTERVAL, settle=0, journal=journal)
    upstream = RecordingUpstream()
    parts = build(settings, upstream=upstream)
    parts.worker.start()
    try:
        ids = Ids(range(1, settings.batch_size_ids * (slots + 2)))
        parts.service.submissions.accept(ids, Priority.MEDIUM)
        while len(upstream.calls) <= slots:
            time.sleep(INTERVAL)
    finally:
        parts.close(5)
    return _gaps(upstream.calls)


def _asleep(slots: int) -> _Gaps:
    """Return how late somebody is who does nothing but sleep until the next slot."""
    calls = [time.monotonic()]
    for _ in range(slots):
        while (left := calls[-1] + INTERVAL - time.monotonic()) > 0:
            time.sleep(left)
        calls.append(time.monotonic())
    return _gaps(calls)


def _gaps(calls: Sequence[float]) -> _Gaps:
    behind = sorted(later - earlier - INTERVAL for earlier, later in pairwise(calls))
    return _Gaps(behind[0], statistics.median(behind), behind[int(len(behind) * 0.99)])
