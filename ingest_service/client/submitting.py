"""Bodies of submissions: any number of items, in requests that the service takes.

An id never becomes a number here if it comes as text: a million of them are bytes from the
file to the socket.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import orjson

from ingest_service.client.service_values import Limits
from ingest_service.client.values import PRIORITIES

#: Digits of the largest id, and a comma.
_ID_LENGTH = 11
#: Room for what is around the items.
_AROUND = 64
_AT_A_TIME = 10_000


@dataclass(frozen=True, slots=True)
class Piece:
    """Some items as JSON, separated by commas without spaces."""

    text: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Items:
    """What is submitted: any number of `ids` or `mappings`."""

    kind: str
    pieces: Iterable[Piece]

    @classmethod
    def of(cls, ids: Iterable[int] | None, mappings: Iterable[Mapping[str, Any]] | None) -> "Items":
        """Return whichever is given; raise ValueError unless it is one of them."""
        if (ids is None) == (mappings is None):
            raise ValueError("Submit either ids or mappings.")
        if ids is not None:
            return cls("ids", _of_ids(ids))
        return cls("mappings", _of_mappings(mappings or ()))


class Part(NamedTuple):
    """The body of one request."""

    body: bytes
    items: int

    def digest(self) -> str:
        """Return a key that the same content always has."""
        return f"once-{hashlib.sha256(self.body).hexdigest()}"


def parts(items: Items, priority: str, limits: Limits) -> Iterator[Part]:
    """Cut `items` into bodies that keep to `limits`.

    The same items give the same bodies, so that each can have a key of its own. An item that
    is too large by itself is a part by itself, for the service to refuse.
    """
    if priority not in PRIORITIES:
        raise ValueError(f"The priority must be one of {', '.join(PRIORITIES)}.")
    most, room = limits.max_items, limits.max_body - _AROUND
    if items.kind == "ids":
        most = max(1, min(most, room // _ID_LENGTH))
    texts: list[bytes] = []
    count = length = 0
    for whole in items.pieces:
        piece: Piece | None = whole
        while piece is not None:
            if texts and (count >= most or length + len(piece.text) > room):
                yield _part(items.kind, priority, texts, count)
                count = length = 0
            taken, piece = _split(piece, most - count)
            texts.append(taken.text)
            count += taken.count
            length += len(taken.text) + 1
    if texts:
        yield _part(items.kind, priority, texts, count)


def _part(kind: str, priority: str, texts: list[bytes], count: int) -> Part:
    """Return a body with `texts`, of which nothing is kept."""
    # Into the list, and not around what comes of it: that is as large as a request may be.
    texts[0] = f'{{"priority":"{priority}","{kind}":['.encode() + texts[0]
    texts[-1] += b"]}"
    body = b",".join(texts)
    texts.clear()
    return Part(body, count)


def _split(piece: Piece, most: int) -> tuple[Piece, Piece | None]:
    """Return the first `most` items of a piece, and the rest; only ids come several at once."""
    if piece.count <= most:
        return piece, None
    *first, rest = piece.text.split(b",", most)
    return Piece(b",".join(first), most), Piece(rest, piece.count - most)


def _of_ids(ids: Iterable[int]) -> Iterator[Piece]:
    remaining = iter(ids)
    while some := list(islice(remaining, _AT_A_TIME)):
        yield Piece(to_json(some)[1:-1], len(some))


def _of_mappings(mappings: Iterable[Mapping[str, Any]]) -> Iterator[Piece]:
    for mapping in mappings:
        value = dict(mapping)
        if not _is_finite(value):
            raise ValueError("This cannot be sent as JSON: a number is infinite or none at all.")
        yield Piece(to_json(value, orjson.OPT_SORT_KEYS), 1)


def _is_finite(value: Any) -> bool:
    """Tell whether no number in it would become null."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list | tuple) or all(map(_is_finite, value))


def to_json(value: Any, option: int = 0) -> bytes:
    """Return a value as JSON text; raise ValueError for what cannot be sent."""
    try:
        return orjson.dumps(value, option=option)
    except TypeError as error:
        raise ValueError(f"This cannot be sent as JSON: {error}.") from error
