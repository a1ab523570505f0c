"""The memory that threads share."""

import ctypes
from contextlib import suppress

#: M_ARENA_MAX of glibc's malloc.h.
_ARENA_MAX = -8


def share_one_heap() -> None:
    """Let all threads that are started from now on use one heap; where libc knows how to.

    A heap each keeps the most that each of them ever needed: the process grew for hours.
    There is one interpreter lock, so hardly anybody waits for the other.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)
