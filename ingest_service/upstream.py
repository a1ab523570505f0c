"""The external API, seen from here, and its simulation."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ingest_service.clock import Clock
from ingest_service.model import Batch, Kind, Outcome


class Call(Protocol):
    """A batch on its way."""

    def ends_at(self) -> float:
        """Return the monotonic instant from which `outcomes` may be asked; inf while unknown."""
        ...

    def outcomes(self) -> Sequence[Outcome]:
        """Return one outcome an item, in order; raise if the call as a whole went wrong."""
        ...


class Upstream(Protocol):
    """Where batches are sent."""

    def start(self, batch: Batch, on_end: Callable[[], None]) -> Call:
        """Begin to send `batch` without waiting for it.

        A call that cannot tell beforehand when it ends calls `on_end`, from any
        thread, once it has; from then on its `ends_at` lies in the past.
        """
        ...


class FinishedCall:
    """A call whose outcomes are known beforehand."""

    def __init__(self, outcomes: Sequence[Outcome], ends_at: float = -math.inf) -> None:
        self._outcomes = outcomes
        self._ends_at = ends_at

    def ends_at(self) -> float:
        """Return the instant given."""
        return self._ends_at

    def outcomes(self) -> Sequence[Outcome]:
        """Return the outcomes given."""
        return self._outcomes


class SimulatedUpstream:
    """Takes `latency` seconds a batch, all items at the same time, and fails some of them."""

    def __init__(
        self, clock: Clock, latency: float, success_rates: dict[Kind, float], seed: int | None
    ) -> None:
        self._clock = clock
        self._latency = latency
        self._success_rates = success_rates
        # Chance in a simulation, repeatable on demand; nothing secret hangs on it.
        self._random = random.Random(seed)  # noqa: S311

    def start(self, batch: Batch, on_end: Callable[[], None]) -> FinishedCall:
        """Decide the outcomes now; they can be had once the latency is over."""
        outcomes = [self._outcome(batch.kind, item) for item in batch.items]
        return FinishedCall(outcomes, self._clock.monotonic() + self._latency)

    def _outcome(self, kind: Kind, item: Any) -> Outcome:
        if self._random.random() >= self._success_rates[kind]:
            return Outcome(succeeded=False, error="The simulated upstream failed this item.")
        if kind is Kind.IDS:
            return Outcome(succeeded=True, processed_data={"id": item, "data": "processed"})
        return Outcome(
            succeeded=True,
            processed_data={
                "source": item["source"],
                "target": item["target"],
                "transformation": item.get("transformation"),
            },
        )
