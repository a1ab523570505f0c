"""Long columns in pieces, so that a page of an ingestion costs a page."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ingest_service.domain.items import ITEMS, Items, Kind

#: Items in a piece of content: some 16 KiB of ids, some 50 KiB of mappings.
ITEMS_PER_CHUNK = {Kind.IDS: 4_096, Kind.MAPPINGS: 512}
#: Items in a piece of their final states, a byte each.
STATES_PER_CHUNK = 32_768
#: What stands between the pieces of a text.
_BETWEEN = {Kind.IDS: b"", Kind.MAPPINGS: b"\n"}


class Chunk(NamedTuple):
    """A piece of a long column."""

    #: Position of its first item.
    first_item: int
    content: bytes


def content_chunks(items: Items) -> Iterator[Chunk]:
    """Yield `items` in pieces."""
    size = ITEMS_PER_CHUNK[items.kind]
    for first in range(0, len(items), size):
        yield Chunk(first, items.to_bytes(first, min(first + size, len(items))))


def state_chunks(states: bytes) -> Iterator[Chunk]:
    """Yield the states of all items in pieces."""
    for first in range(0, len(states), STATES_PER_CHUNK):
        yield Chunk(first, states[first : first + STATES_PER_CHUNK])


def join_items(kind: Kind, chunks: Iterable[Chunk]) -> Items:
    """Return the items in `chunks`, which follow one another."""
    return ITEMS[kind].from_bytes(_BETWEEN[kind].join(chunk.content for chunk in chunks))


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
    joined = b"".join(chunk.content for chunk in chunks)
    return joined[span.start - before : span.stop - before]
