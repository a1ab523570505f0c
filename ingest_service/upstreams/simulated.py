"""The upstream that is none: for trying things out, and the default."""

import random
from typing import Any

from ingest_service.clock import Clock
from ingest_service.domain.items import Kind
from ingest_service.domain.model import Batch, Outcome
from ingest_service.upstreams.protocol import FinishedCall, OnNews


class SimulatedUpstream:
    """Takes `latency` seconds a batch, all items at the same time, and fails some of them."""

    def __init__(
        self, clock: Clock, latency: float, success_rates: dict[Kind, float], seed: int | None
    ) -> None:
        self._clock = clock
        self.latency: float | None = latency
        self._success_rates = success_rates
        # Chance in a simulation, repeatable on demand; nothing secret hangs on it.
        self._random = random.Random(seed)  # noqa: S311 # nosec B311

    def start(self, batch: Batch, on_news: OnNews) -> FinishedCall:
        """Decide the outcomes now; they can be had once the latency is over."""
        outcomes = [self._outcome(batch.kind, item) for item in batch.items]
        return FinishedCall(outcomes, self._clock.monotonic() + (self.latency or 0.0))

    def trouble(self) -> str | None:
        """Nothing can go wrong."""
        return None

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
