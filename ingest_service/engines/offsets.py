"""Which items: of a batch, as they are stored, and among the states of many."""

from array import array
from collections.abc import Sequence

from ingest_service.domain.model import ItemState, some_or_all


def pack_offsets(offsets: Sequence[int]) -> bytes | None:
    """Return `offsets` as two bytes each; None for a range, which always means all."""
    return None if isinstance(offsets, range) else array("H", offsets).tobytes()


def unpack_offsets(packed: bytes | None, size: int) -> Sequence[int]:
    """Return the offsets that `pack_offsets` made `packed` of, in a batch of `size` items."""
    if packed is None:
        return range(size)
    offsets = array("H")
    offsets.frombytes(packed)
    return some_or_all(offsets.tolist(), size)


def find_states(
    states: bytes, wanted: Sequence[ItemState], first: int, limit: int, skip: int = 0
) -> list[int]:
    """Return up to `limit` positions of the states `wanted` from `first` on, without `skip`."""
    positions: list[int] = []
    for start in range(first, len(states), 4096):
        chunk = states[start : start + 4096]
        # Counting runs at the speed of memory, so whole chunks are skipped that way.
        hits = sum(chunk.count(state) for state in wanted)
        if skip >= hits:
            skip -= hits
            continue
        positions += [start + at for at, state in enumerate(chunk) if state in wanted][skip:]
        skip = 0
        if len(positions) >= limit:
            break
    return positions[:limit]
