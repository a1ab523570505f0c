"""What an ingestion consists of, kept compact: an object an item would cost ten times as much."""

from array import array
from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import accumulate, islice
from typing import Any, Self

import orjson

#: Most texts that are made before they are put together.
_AT_A_TIME = 1_000


class Kind(StrEnum):
    """What an ingestion consists of."""

    IDS = "ids"
    MAPPINGS = "mappings"


class Ids(Sequence[int]):
    """Integer items, 4 bytes each."""

    __slots__ = ("_ids",)
    kind = Kind.IDS

    def __init__(self, ids: Iterable[int]) -> None:
        self._ids = ids if isinstance(ids, array) else array("I", ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: Any) -> Any:
        ids = self._ids[index]
        return ids.tolist() if isinstance(ids, array) else ids

    def keys(self, start: int, end: int) -> list[int]:
        """Return what a client calls the items from `start` to `end`."""
        return self._ids[start:end].tolist()

    def to_bytes(self, start: int = 0, end: int | None = None) -> bytes:
        """Return a compact form of the items from `start` to `end`, the same for equal ones."""
        return self._ids[start:end].tobytes()

    def canonical(self) -> bytes:
        """Return what requests that mean the same have in common."""
        return self.to_bytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Return the items that `to_bytes` made `content` of."""
        ids = array("I")
        ids.frombytes(content)
        return cls(ids)


class Mappings(Sequence[dict[str, Any]]):
    """Mapping items, kept as JSON text: an object each would cost many times as much."""

    kind = Kind.MAPPINGS

    def __init__(self, mappings: Iterable[dict[str, Any]]) -> None:
        self._keep(map(orjson.dumps, mappings))

    def _keep(self, texts: Iterable[bytes]) -> None:
        """Keep lines, and where each begins."""
        self._bounds = array("I", [0])
        joined = bytearray()
        remaining = iter(texts)
        # Some at a time: orjson leaves up to 4 KiB allocated behind each text it returns.
        while some := list(islice(remaining, _AT_A_TIME)):
            begins = accumulate((len(text) + 1 for text in some), initial=len(joined))
            # Where the first of them begins is known.
            next(begins)
            self._bounds.extend(begins)
            joined += b"\n".join(some) + b"\n"
        self._text = bytes(joined)

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return orjson.loads(self._text[self._bounds[index] : self._bounds[index + 1] - 1])

    def keys(self, start: int, end: int) -> list[str]:
        """Return what a client calls the items from `start` to `end`."""
        return [mapping["id"] for mapping in self[start:end]]

    def canonical(self) -> bytes:
        """Return what requests that mean the same have in common: keys have no order."""
        sort = orjson.OPT_SORT_KEYS
        return b"\n".join(orjson.dumps(self[at], option=sort) for at in range(len(self)))

    def to_bytes(self, start: int = 0, end: int | None = None) -> bytes:
        """Return a compact form of the items from `start` to `end`, the same for equal ones."""
        last = len(self) if end is None else min(end, len(self))
        return self._text[self._bounds[start] : max(self._bounds[last] - 1, 0)]

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Return the items that `to_bytes` made `content` of."""
        mappings = cls(())
        mappings._keep(content.split(b"\n"))
        return mappings


Items = Ids | Mappings
ITEMS: dict[Kind, type[Ids] | type[Mappings]] = {Kind.IDS: Ids, Kind.MAPPINGS: Mappings}
