"""The last batch starts, compact: there are more of them than of anything else."""

import math
from array import array
from datetime import datetime

from ingest_service.domain.model import Batch
from ingest_service.engines import EXAMPLES, GAP_TOLERANCE, RateProof, Start
from ingest_service.engines.embedded.journal import Sent, Started
from ingest_service.engines.micros import to_datetime, to_micros

#: At the default pace, those of nearly six days.
KEPT_STARTS = 100_000
#: How many more there may be before the oldest are dropped, all at once.
_SLACK = KEPT_STARTS // 10
#: How many starts may come between a start and the news that it was sent.
_LOOK_BACK = 1_000


class StartLog:
    """Starts in their order, some 50 bytes each; its owner has a lock."""

    def __init__(self) -> None:
        self._ingestion_ids: list[str] = []
        self._batches = array("I")
        self._start_nos = array("I")
        self._times = array("q")
        #: NaN: nobody knows.
        self._gaps = array("d")
        #: Whether the gap is that of the requests on the wire.
        self._by_wire = array("b")
        self._required = array("d")

    def add(self, started: Started) -> None:
        """Note a start, in place of an earlier record if it is the last one once more."""
        if self._find(started.batch, 1) is not None:
            self._drop(slice(-1, None))
        elif len(self._times) == KEPT_STARTS + _SLACK:
            self._drop(slice(_SLACK))
        self._ingestion_ids.append(started.batch.ingestion_id)
        self._batches.append(started.batch.index)
        self._start_nos.append(started.batch.start_no)
        self._times.append(to_micros(started.instant.at))
        self._gaps.append(math.nan if started.gap is None else started.gap)
        self._by_wire.append(False)
        self._required.append(started.required)

    def note_sent(self, sent: Sent) -> None:
        """Count the gap by the wire from now on, the smallest if there are several."""
        position = self._find(sent.batch, _LOOK_BACK)
        if position is None or sent.gap is None:
            return
        earlier = self._gaps[position] if self._by_wire[position] else math.inf
        self._gaps[position] = min(earlier, sent.gap)
        self._by_wire[position] = True

    def rate_proof(self, since: datetime, until: datetime) -> RateProof:
        """Return what the starts of a period show."""
        first, end = to_micros(since), to_micros(until)
        period = [at for at, time in enumerate(self._times) if first <= time < end]
        gaps = [self._gaps[at] for at in period if not math.isnan(self._gaps[at])]
        # Nothing is less than NaN.
        early = [at for at in period if self._gaps[at] < self._required[at] - GAP_TOLERANCE]
        examples = [self._start(at) for at in early[:EXAMPLES]]
        return RateProof(len(period), min(gaps, default=None), len(early), examples)

    def _find(self, batch: Batch, look_back: int) -> int | None:
        """Return where the start of `batch` is among the last ones."""
        name = batch.ingestion_id, batch.index, batch.start_no
        end = len(self._times)
        for at in range(end - 1, max(end - look_back, 0) - 1, -1):
            if (self._ingestion_ids[at], self._batches[at], self._start_nos[at]) == name:
                return at
        return None

    def _drop(self, which: slice) -> None:
        for column in (
            self._ingestion_ids,
            self._batches,
            self._start_nos,
            self._times,
            self._gaps,
            self._by_wire,
            self._required,
        ):
            del column[which]

    def _start(self, at: int) -> Start:
        return Start(
            to_datetime(self._times[at]),
            self._ingestion_ids[at],
            self._batches[at],
            self._gaps[at],
            self._required[at],
        )
