"""Long columns in pieces, so that a page of an ingestion costs a page."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ingest_service.domain.items import ITEMS, Items, Kind
from ingest_service.engines.packing import Packing, pack, unpack

#: Items in a piece of content: some 16 KiB of ids, some 50 KiB of mappings.
ITEMS_PER_CHUNK = {Kind.IDS: 4_096, Kind.MAPPINGS: 512}
#: Items in a piece of their final states, a byte each.
STATES_PER_CHUNK = 32_768
#: What stands between the pieces of a text.
_BETWEEN = {Kind.IDS: b"", Kind.MAPPINGS: b"\n"}


#: How a piece of content is packed, if that makes it smaller.
_PACKING = {Kind.IDS: Packing.PLANES_DEFLATED, Kind.MAPPINGS: Packing.DEFLATED}


class Chunk(NamedTuple):
    """A piece of a long column, in the form in which it is stored."""

    #: Position of its first item.
    first_item: int
    content: bytes
    packing: int = Packing.PLAIN

    def unpacked(self) -> bytes:
        """Return what it holds."""
        return unpack(self.content, self.packing)


def content_chunks(items: Items) -> Iterator[Chunk]:
    """Yield `items` in pieces."""
    size, packing = ITEMS_PER_CHUNK[items.kind], _PACKING[items.kind]
    for first in range(0, len(items), size):
        packed = pack(items.to_bytes(first, min(first + size, len(items))), packing)
        # Ids in no order at all do not get smaller; the first piece tells for all.
        packing = packed.packing
        yield Chunk(first, *packed)


def state_chunks(states: bytes) -> Iterator[Chunk]:
    """Yield the states of all items in pieces."""
    for first in range(0, len(states), STATES_PER_CHUNK):
        yield Chunk(first, *pack(states[first : first + STATES_PER_CHUNK], Packing.DEFLATED))


def join_items(kind: Kind, chunks: Iterable[Chunk]) -> Items:
    """Return the items in `chunks`, which follow one another."""
    return ITEMS[kind].from_bytes(_BETWEEN[kind].join([chunk.unpacked() for chunk in chunks]))


def keys_of(kind: Kind, chunks: Sequence[Chunk], span: range) -> Sequence[int] | Sequence[str]:
    """Return what a client calls the items at `span`, all of which are in `chunks`."""
    if not span or not chunks:
        return ()
    before = chunks[0].first_item
    return join_items(kind, chunks).keys(span.start - before, span.stop - before)


def states_of(chunks: Sequence[Chunk], span: range) -> bytes:
    """Return the states of the items at `span`, all of which are in `chunks`."""
    if not chunks:
        return b""
    before = chunks[0].first_item
    joined = b"".join(chunk.unpacked() for chunk in chunks)
    return joined[span.start - before : span.stop - before]
