"""When batches under way are expected to end."""

from ingest_service.domain.items import Kind
from ingest_service.domain.model import Batch
from ingest_service.engines import Slot
from ingest_service.engines.embedded.in_flight import InFlightBatches

BATCH = Batch("i", 1, "b", Kind.IDS, index=0, start_no=1, attempt=1, offsets=range(1), items=[7])


def batches_of_two_seconds() -> InFlightBatches:
    """Return batches that took two seconds so far, with one under way since 100."""
    in_flight = InFlightBatches(lambda: None)
    first, second = Slot(1, BATCH, 0.0, 5.0), Slot(2, BATCH, 100.0, 5.0)
    in_flight.add(first)
    in_flight.remove(first, 2.0)
    in_flight.add(second)
    in_flight.note_called(second, ends_at=None)
    return in_flight


def test_a_batch_is_expected_to_take_as_long_as_others_did() -> None:
    """The median of those that ended."""
    assert batches_of_two_seconds().ends(101.0) == (102.0,)


def test_the_end_of_a_batch_that_takes_longer_is_estimated_in_growing_steps() -> None:
    """An estimate that moved with every look would be news to all who wait for some."""
    in_flight = batches_of_two_seconds()
    looks = [in_flight.end_of("i", now) for now in (102.0, 102.001, 103.9, 104.0, 107.9, 108.0)]

    assert looks == [104.0, 104.0, 104.0, 108.0, 108.0, 116.0]
    assert in_flight.end_of("somebody else", 102.0) is None


def test_a_batch_is_starting_until_the_upstream_has_it() -> None:
    """Of one ingestion, or of any."""
    in_flight, slot = InFlightBatches(lambda: None), Slot(1, BATCH, 0.0, 5.0)
    in_flight.add(slot)
    assert in_flight.is_starting()
    assert in_flight.is_starting("i")
    assert not in_flight.is_starting("somebody else")

    in_flight.note_called(slot, ends_at=7.0)
    assert not in_flight.is_starting()
    assert in_flight.ends(1.0) == (7.0,)
