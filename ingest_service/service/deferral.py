"""Answers that wait for their commit without a thread: the seam for the server in front."""

from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

#: What has to succeed before the answer to the present request may be sent. None where
#: nobody waits for it later, so the request itself has to.
deferred: "ContextVar[list[Future[Any]] | None]" = ContextVar("deferred", default=None)


def settled_later(future: "Future[Any]") -> bool:
    """Leave waiting for `future` to whoever sends the answer; return whether somebody does."""
    pending = deferred.get()
    if pending is None:
        return False
    pending.append(future)
    return True
