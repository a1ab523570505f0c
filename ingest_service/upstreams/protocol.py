"""The external API, seen from here."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from ingest_service import logs
from ingest_service.domain.model import Batch, Outcome


class Call(Protocol):
    """A batch on its way."""

    @property
    def announced(self) -> bool:
        """Whether `on_end` is called when it ends, which may be before `ends_at`."""
        ...

    def ends_at(self) -> float:
        """Return the monotonic instant from which `outcomes` may be asked.

        For an announced call that is when it is given up, and -inf once it has ended.
        """
        ...

    def sent_at(self) -> float:
        """Return when the last request so far went out; -inf if that is not known.

        The upstream sees the pace by its requests, and connecting takes time.
        """
        ...

    def outcomes(self) -> Sequence[Outcome]:
        """Return one outcome an item, in order; raise if the call as a whole went wrong."""
        ...


def crashed(batch: Batch, error: BaseException) -> list[Outcome]:
    """Return the outcomes of a batch whose call raised `error`, which is logged."""
    logs.event("upstream_crashed", level=logging.ERROR, exc_info=error, batch_id=batch.batch_id)
    reason = f"The upstream crashed: {type(error).__name__}."
    return [Outcome(succeeded=False, error=reason)] * len(batch.items)


def idempotency_keys(batch: Batch) -> list[str]:
    """Return a name for each item that is the same on every attempt, and nobody else's."""
    return [f"{batch.batch_id}/{place}" for place in batch.offsets]


class FinishedCall:
    """A call whose outcomes are known beforehand."""

    announced = False

    def __init__(self, outcomes: Sequence[Outcome], ends_at: float = -math.inf) -> None:
        self._outcomes = outcomes
        self._ends_at = ends_at

    def ends_at(self) -> float:
        """Return the instant given."""
        return self._ends_at

    def sent_at(self) -> float:
        """Nothing was sent."""
        return -math.inf

    def outcomes(self) -> Sequence[Outcome]:
        """Return the outcomes given."""
        return self._outcomes


class Connector(Protocol):
    """What a Python connector is: a function that sends a batch and waits for it.

    `docs/connectors.md` has an example, `ingest_service.connector_contract` the tests.
    """

    def __call__(self, batch: Batch) -> Sequence[Outcome]:
        """Send `batch`; return one outcome an item, in the order of `batch.items`.

        Called from several threads at a time. Whatever it raises fails the
        batch for good.
        """
        ...


class Upstream(Protocol):
    """Where batches are sent."""

    @property
    def latency(self) -> float | None:
        """How long a batch takes in seconds, None if that is not known beforehand."""
        ...

    def start(self, batch: Batch, on_end: Callable[[], None]) -> Call:
        """Begin to send `batch` without waiting for it.

        A call that cannot tell beforehand when it ends calls `on_end`, from any
        thread, once it has.
        """
        ...
