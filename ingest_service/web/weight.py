"""How much a body asks a parser to build, found out before it builds anything.

Sixty megabytes of `[[],[],...]` would stop every thread for eight seconds and take 1.6 GB.
"""

import re
from collections.abc import Iterator

#: Bodies up to this size cannot ask for much.
LIGHT = 64 * 1024
#: So many values are never too many.
FEW = 2**18
#: What an item may need of each: its own brackets, keys and commas, and a transformation's.
PER_ITEM = 8
_WINDOW = 2**18
_STRUCTURE = (b"[", b"{", b",", b":")
_INSIDE = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
_INSIDE_OF_STRING = re.compile(_INSIDE, re.DOTALL)
#: Whole strings; the last one, if it does not end here, stays.
_STRINGS = re.compile(rb'"%b"|("%b\\?\Z)' % (_INSIDE, _INSIDE), re.DOTALL)


def is_too_heavy(body: bytes | bytearray, items: int) -> bool:
    """Tell whether `body` has more values than so many items can need."""
    most = PER_ITEM * items + FEW
    if len(body) <= LIGHT or _total(body) <= most or max(map(body.count, _STRUCTURE)) <= most:
        return False
    # Perhaps it is text that looks so.
    return any(max(counts) > most for counts in _outside_strings(body))


def _total(body: bytes | bytearray) -> int:
    """Count all of them together, which takes half as long as one by one."""
    return len(body) - len(body.translate(None, b"".join(_STRUCTURE)))


def _outside_strings(body: bytes | bytearray) -> Iterator[list[int]]:
    """Count brackets, commas and colons that are not within strings, window by window.

    Short windows, because each holds up all other threads.
    """
    counts = [0] * len(_STRUCTURE)
    begun = b""
    for at in range(0, len(body), _WINDOW):
        # Of a string that began before, its quotation mark and perhaps a backslash.
        text = _STRINGS.sub(rb"\1", begun + body[at : at + _WINDOW])
        text, begun, inside = text.partition(b'"')
        if begun:
            end = _INSIDE_OF_STRING.match(inside)
            begun += inside[end.end() :] if end else b""
        for which, mark in enumerate(_STRUCTURE):
            counts[which] += text.count(mark)
        yield counts
