"""The batches under way: when they end, how long they take, what comes of them."""

import math
import statistics
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import orjson

from ingest_service.domain.model import Batch, Outcome
from ingest_service.upstreams.protocol import Call, Upstream, crashed


@dataclass(frozen=True, slots=True)
class InFlight:
    """A batch under way."""

    batch: Batch
    #: When it was started (monotonic).
    started: float
    call: Call

    def outcomes(self) -> list[Outcome]:
        """Return exactly one outcome an item that can be kept, whatever the upstream says."""
        try:
            outcomes = [_storable(outcome) for outcome in self.call.outcomes()]
        except Exception as error:  # noqa: BLE001 - whatever an upstream does ends its batch only
            return crashed(self.batch, error)
        if len(outcomes) != len(self.batch.items):
            return crashed(self.batch, ValueError(f"{len(outcomes)} outcomes"))
        return outcomes


class Flight:
    """All of them. Changed by the worker's thread only; others may look at any time."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._all: list[InFlight] = []
        #: How long the last ones took.
        self._durations: deque[float] = deque(maxlen=100)
        #: Whether a batch is between the line and the upstream.
        self.starting = False

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[InFlight]:
        return iter(list(self._all))

    def add(self, batch: Batch, started: float, call: Call) -> None:
        """Note a batch that was started."""
        self._all.append(InFlight(batch, started, call))
        self.starting = False

    def remove(self, ended: InFlight, now: float) -> None:
        """Forget a batch that has ended."""
        self._all.remove(ended)
        self._durations.append(now - ended.started)

    def ended(self, now: float) -> list[InFlight]:
        """Return those that have ended."""
        return [each for each in self._all if each.call.ends_at() <= now]

    @property
    def next_end(self) -> float:
        """When the next one ends or is given up; inf if there is none."""
        return min((each.call.ends_at() for each in self._all), default=math.inf)

    @property
    def announced(self) -> bool:
        """Whether one may end earlier than that, and says so."""
        return any(each.call.announced for each in self._all)

    @property
    def sent_at(self) -> float:
        """When the last request so far went out; -inf if that is not known."""
        return max((each.call.sent_at() for each in self._all), default=-math.inf)

    @property
    def duration(self) -> float:
        """How long a batch takes, as far as one can tell."""
        known = self._upstream.latency
        if known is not None:
            return known
        return statistics.median(self._durations) if self._durations else 0.0

    def ends(self, now: float) -> tuple[float, ...]:
        """Return when each will have ended, as far as one can tell, the one starting included."""
        starting = (now + self.duration,) if self.starting else ()
        return (*(self._end_of(each, now) for each in self), *starting)

    def end_of(self, ingestion_id: str, now: float) -> float | None:
        """Return when what is under way of an ingestion will have ended, None if nothing is."""
        mine = [each for each in self if each.batch.ingestion_id == ingestion_id]
        return max((self._end_of(each, now) for each in mine), default=None)

    def _end_of(self, each: InFlight, now: float) -> float:
        if not each.call.announced:
            return max(now, each.call.ends_at())
        if each.started + self.duration > now:
            return each.started + self.duration
        # It takes longer than usual. An estimate that moved with every look would
        # be news to everybody who waits for some, so it moves in growing steps.
        expected = max(self.duration, 1.0)
        while each.started + expected <= now:
            expected *= 2
        return each.started + expected


def _storable(outcome: Outcome) -> Outcome:
    """Return `outcome`, or what can be kept of it: it may come from somebody else's code."""
    if not isinstance(outcome, Outcome):
        raise TypeError(type(outcome).__name__)
    try:
        # Nested, because what can only just be written could not be answered.
        orjson.dumps(((((outcome.processed_data,),),), outcome.error, outcome.status_code))
    except TypeError:
        return Outcome(succeeded=False, error="The answer cannot be kept: it is not JSON.")
    if outcome.succeeded is True and not (
        outcome.transient or outcome.unreachable or outcome.retry_after
    ):
        return outcome
    hold = outcome.retry_after
    return replace(
        outcome,
        succeeded=bool(outcome.succeeded),
        transient=bool(outcome.transient and not outcome.succeeded),
        unreachable=bool(outcome.unreachable and not outcome.succeeded),
        retry_after=float(hold) if isinstance(hold, int | float) and hold > 0 else None,
    )
