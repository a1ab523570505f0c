"""What follows from the records of a batch: where its items are, and what becomes of them."""

from collections.abc import Sequence
from dataclasses import replace

from ingest_service.domain.model import ItemState, Outcome
from ingest_service.engines.options import MAX_CRASHES
from ingest_service.engines.outcomes import encode_outcomes, final_states
from ingest_service.engines.transfer.records import BatchRecord, StartRecord


def chosen(offsets: Sequence[int] | None, size: int) -> Sequence[int]:
    """Return the offsets that a record means."""
    return range(size) if offsets is None else offsets


def start_states(start: StartRecord, size: int) -> bytes:
    """Return the state of each item that was sent, in their order, after a start."""
    sent = chosen(start.offsets, size)
    if start.ended_at is None:
        return bytes([ItemState.IN_FLIGHT]) * len(sent)
    if start.outcomes is None:
        return bytes([ItemState.RETRYING]) * len(sent)
    states = final_states(start.outcomes)
    if start.final == start.offsets:
        return states
    final = dict(zip(chosen(start.final, size), states, strict=True))
    return bytes([final.get(offset, ItemState.RETRYING) for offset in sent])


def after_starts(batch: BatchRecord, after: Sequence[bytes], size: int) -> bytearray:
    """Return the states of the items of a batch, as its starts have left them.

    `after` has the states after each of them, see `start_states`.
    """
    states = bytearray(size)
    for start, those in zip(batch.starts, after, strict=True):
        for offset, state in zip(chosen(start.offsets, size), those, strict=True):
            states[offset] = state
    return states


def states_of(batch: BatchRecord, after: Sequence[bytes], size: int) -> bytearray:
    """Return the states of the items of a batch; what was under way is sent again."""
    in_flight, retrying = bytes([ItemState.IN_FLIGHT]), bytes([ItemState.RETRYING])
    states = after_starts(batch, after, size).replace(in_flight, retrying)
    if batch.retry is not None:
        for offset in chosen(batch.retry.offsets, size):
            states[offset] = ItemState.RETRYING
    for offset in batch.cancelled:
        states[offset] = ItemState.CANCELLED
    return states


def crashes_of(batch: BatchRecord) -> int:
    """Return how many starts in a row, up to the last one, have no end."""
    crashes = 0
    for start in reversed(batch.starts):
        if start.ended_at is not None:
            break
        crashes += 1
    return crashes


def without_hope(batch: BatchRecord, size: int) -> BatchRecord:
    """Return a batch that is not started again, because that was done too often in vain."""
    if crashes_of(batch) < MAX_CRASHES:
        return batch
    last = batch.starts[-1]
    outcomes = [Outcome(succeeded=False, error="crashed")] * len(chosen(last.offsets, size))
    ended = replace(last, ended_at=last.at, final=last.offsets, outcomes=encode_outcomes(outcomes))
    return replace(batch, starts=[*batch.starts[:-1], ended])
