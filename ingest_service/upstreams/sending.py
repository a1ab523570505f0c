"""When a request really goes out: a new connection can take longer than a pace allows for."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_here = threading.local()


@contextmanager
def noting(note: Callable[[], None]) -> Iterator[None]:
    """Call `note` whenever this thread says `now` meanwhile."""
    _here.note = note
    try:
        yield
    finally:
        del _here.note


def now() -> None:
    """Say that what is sent begins to be sent at this moment, and not earlier."""
    note = getattr(_here, "note", None)
    if note is not None:
        note()
