"""When a request really goes out, and whether it still may: connecting can take long."""

import threading
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


def watch_with(watch: Watch | None) -> None:
    """Tell `watch` about the requests that this thread sends from now on; None: nobody."""
    _here.watch = watch


def may_begin() -> bool:
    """Return whether a request may be written now; it is written at once if it may."""
    watch: Watch | None = getattr(_here, "watch", None)
    return watch is None or watch.may_begin()


def sent() -> None:
    """Say that a request has been handed to the network."""
    watch: Watch | None = getattr(_here, "watch", None)
    if watch is not None:
        watch.sent()
