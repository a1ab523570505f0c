"""An answer may wait for its commit without a thread that waits."""

from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

#: Where it is a list, `accept` does not wait for the disk: it appends what it would have waited
#: for and returns; whoever set the list gives the answer away only when all of it has succeeded.
deferred: ContextVar[list[Future[Any]] | None] = ContextVar("deferred", default=None)
