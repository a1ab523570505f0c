"""When batches under way are expected to end."""

import math
from collections.abc import Callable, Sequence

from ingest_service.domain.items import Kind
from ingest_service.domain.model import Batch, Outcome
from ingest_service.engines.embedded.in_flight import Flight
from ingest_service.upstreams.protocol import Call

BATCH = Batch("i", 1, "b", Kind.IDS, index=0, start_no=1, attempt=1, offsets=range(1), items=[7])


class Slow:
    """An upstream, and a call of it, that says when it has ended and not before."""

    latency = None
    announced = True

    def trouble(self) -> str | None:
        return None

    def start(self, batch: Batch, on_end: Callable[[], None]) -> Call:
        return self

    def ends_at(self) -> float:
        return 1_000.0

    def sent_at(self) -> float:
        return -math.inf

    def ended_at(self) -> float:
        return 1_000.0

    def connecting(self) -> bool:
        return False

    def retry_after(self) -> Sequence[tuple[float, float]]:
        return []

    def outcomes(self) -> Sequence[Outcome]:
        return []


def flight_of_two_seconds() -> Flight:
    """Return a flight whose batches took two seconds so far, with one under way since 100."""
    flight = Flight(Slow())
    flight.add(BATCH, 0.0, Slow())
    flight.remove(next(iter(flight)), 2.0)
    flight.add(BATCH, 100.0, Slow())
    return flight


def test_a_batch_is_expected_to_take_as_long_as_others_did() -> None:
    """The median of those that ended."""
    assert flight_of_two_seconds().ends(101.0) == (102.0,)


def test_the_end_of_a_batch_that_takes_longer_is_estimated_in_growing_steps() -> None:
    """An estimate that moved with every look would be news to all who wait for some."""
    flight = flight_of_two_seconds()
    looks = [flight.end_of("i", now) for now in (102.0, 102.001, 103.9, 104.0, 107.9, 108.0)]

    assert looks == [104.0, 104.0, 104.0, 108.0, 108.0, 116.0]
    assert flight.end_of("somebody else", 102.0) is None
