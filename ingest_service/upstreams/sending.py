"""When a request really goes out, and whether it still may: connecting can take long."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_here = threading.local()


class Watch(Protocol):
    """Who wants to know about the requests of a thread."""

    def may_begin(self) -> bool:
        """Return whether a request may be written, which begins at once if it may."""
        ...

    def sent(self) -> None:
        """Take note that a request has been handed to the network."""
        ...


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Tell `watch` about the requests that this thread sends meanwhile."""
    _here.watch = watch
    try:
        yield
    finally:
        del _here.watch


def may_begin() -> bool:
    """Return whether a request may be written now; it is written at once if it may."""
    watch: Watch | None = getattr(_here, "watch", None)
    return watch is None or watch.may_begin()


def sent() -> None:
    """Say that a request has been handed to the network."""
    watch: Watch | None = getattr(_here, "watch", None)
    if watch is not None:
        watch.sent()
