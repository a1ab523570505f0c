"""The external API, seen from here."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from ingest_service import logs
from ingest_service.domain.model import Batch, Outcome
from ingest_service.tracebacks import let_go
from ingest_service.upstreams.outcomes import seconds_asked

#: Called from any thread: there is something new to look at.
OnNews = Callable[[], None]


class Call(Protocol):
    """A batch on its way; all instants are monotonic."""

    @property
    def announced(self) -> bool:
        """Whether `on_news` is called when it ends, which may be before `ends_at`."""
        ...

    def ends_at(self) -> float:
        """Return the instant from which `outcomes` may be asked.

        For an announced call that is when it is given up, and -inf once it has ended.
        """
        ...

    def ended_at(self) -> float:
        """Return when it ended: with its last part, or when it was given up.

        Means something only once it has ended.
        """
        ...

    def connecting(self) -> bool:
        """Return whether a request of it has not been handed to the network yet.

        A connector that cannot tell has handed over everything once it was called.
        """
        ...

    def sent_at(self) -> float:
        """Return when the last request so far went out; -inf if that is not known.

        The upstream sees the pace by its requests, and connecting takes time.
        """
        ...

    def retry_after(self) -> Sequence[tuple[float, float]]:
        """Return what asked to leave the upstream alone: when it came, for how many seconds.

        An entry an answer, known at once, also while others are still under way. Where
        the outcomes are known beforehand the instant can lie ahead.
        """
        ...

    def outcomes(self) -> Sequence[Outcome]:
        """Return one outcome an item, in order; raise if the call as a whole went wrong."""
        ...


class Connector(Protocol):
    """What a Python connector is: a function that sends a batch and waits for it.

    `docs/connectors.md` has an example, `ingest_service.connector_contract` the tests.
    """

    def __call__(self, batch: Batch) -> Sequence[Outcome]:
        """Send `batch`, a copy; return one outcome an item, in the order of `batch.items`.

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

    def start(self, batch: Batch, on_news: OnNews) -> Call:
        """Begin to send `batch` without waiting for it.

        An announced call calls `on_news` once it has ended, and before that whenever
        `connecting` became false or an answer came that has a `retry_after`.
        """
        ...

    def trouble(self) -> str | None:
        """Return one sentence while calls are lost or cannot be made, otherwise None."""
        ...


class FinishedCall:
    """A call whose outcomes are known beforehand."""

    announced = False

    def __init__(self, outcomes: Sequence[Outcome], ends_at: float = -math.inf) -> None:
        self._outcomes = outcomes
        self._ends_at = ends_at

    def ends_at(self) -> float:
        """Return the instant given."""
        return self._ends_at

    def ended_at(self) -> float:
        """Return the instant given."""
        return self._ends_at

    def connecting(self) -> bool:
        """Nothing has to be sent."""
        return False

    def sent_at(self) -> float:
        """Nothing was sent."""
        return -math.inf

    def retry_after(self) -> Sequence[tuple[float, float]]:
        """Return what the outcomes ask for, from the instant given."""
        return requests_to_wait(self._outcomes, self._ends_at)

    def outcomes(self) -> Sequence[Outcome]:
        """Return the outcomes given."""
        return self._outcomes


def requests_to_wait(outcomes: object, at: float) -> list[tuple[float, float]]:
    """Return the longest wait that the outcomes of an answer ask for, if any does."""
    listed = outcomes if isinstance(outcomes, list | tuple) else ()
    # Nearly none does, and there can be many of them.
    asking = [outcome for outcome in listed if getattr(outcome, "retry_after", None) is not None]
    asked = [seconds for outcome in asking if (seconds := seconds_asked(outcome)) is not None]
    return [(at, max(asked))] if asked else []


def crashed(batch: Batch, error: BaseException) -> list[Outcome]:
    """Return the outcomes of a batch whose call raised `error`, which is logged."""
    logs.event("upstream_crashed", level=logging.ERROR, exc_info=error, batch_id=batch.batch_id)
    let_go(error)
    reason = f"The upstream crashed: {type(error).__name__}."
    return [Outcome(succeeded=False, error=reason)] * len(batch.items)


def idempotency_keys(batch: Batch) -> list[str]:
    """Return a name for each item that is the same on every attempt, and nobody else's."""
    return [f"{batch.batch_id}/{offset}" for offset in batch.offsets]
