"""Bytes as they are stored: smaller where that takes less time than writing them would."""

import zlib
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import NamedTuple

#: Nothing is won with less.
_SMALLEST = 256
#: Measured: more takes much longer for little.
_LEVEL = 1


class Packing(IntEnum):
    """How bytes are stored; what is written is never changed, and all can be read."""

    PLAIN = 0
    DEFLATED = 1
    #: The first bytes of all 32-bit numbers, then all second ones ...: neighbours are alike then.
    PLANES_DEFLATED = 2


class Packed(NamedTuple):
    """Bytes in the form in which they are stored."""

    content: bytes
    packing: Packing


def pack(content: bytes, packing: Packing) -> Packed:
    """Return `content` as `packing` says, or as it is if that is not smaller."""
    if len(content) >= _SMALLEST and packing is not Packing.PLAIN:
        smaller = _PACK[packing](content)
        if len(smaller) < len(content) * 7 // 8:
            return Packed(smaller, packing)
    return Packed(content, Packing.PLAIN)


def unpack(content: bytes, packing: int) -> bytes:
    """Return the bytes that `pack` made `content` of."""
    # First, because there may be a hundred thousand of them at a start.
    return content if packing == Packing.PLAIN else _UNPACK[Packing(packing)](content)


def _deflate(content: bytes) -> bytes:
    return zlib.compress(content, _LEVEL)


def _deflate_planes(content: bytes) -> bytes:
    return _deflate(b"".join(content[plane::4] for plane in range(4)))


def _inflate_planes(content: bytes) -> bytes:
    planes = zlib.decompress(content)
    size = len(planes) // 4
    numbers = bytearray(len(planes))
    for plane in range(4):
        numbers[plane::4] = planes[plane * size : (plane + 1) * size]
    return bytes(numbers)


_PACK: Mapping[Packing, Callable[[bytes], bytes]] = {
    Packing.DEFLATED: _deflate,
    Packing.PLANES_DEFLATED: _deflate_planes,
}
_UNPACK: Mapping[Packing, Callable[[bytes], bytes]] = {
    Packing.DEFLATED: zlib.decompress,
    Packing.PLANES_DEFLATED: _inflate_planes,
}
