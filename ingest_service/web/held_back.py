"""Answers that are held back until something changes: the seam for a server without threads.

Where the environment of a request has a `HeldBack`, no view waits: it tells there what to wait for,
and is asked again.
"""

from typing import Any, NamedTuple

HELD_BACK = "ingest.held_back"


class Change(NamedTuple):
    """Any change of an ingestion from a version on, within so many seconds."""

    ingestion_id: str
    version: int
    seconds: float


class HeldBack:
    """What has to happen before a request is answered."""

    __slots__ = ("_is_over", "awaited")

    def __init__(self) -> None:
        #: None if the answer is good as it is.
        self.awaited: Change | None = None
        self._is_over = False

    def until(self, change: Change) -> bool:
        """Have the request asked again after `change`; return False if that is so by now."""
        if not self._is_over:
            self.awaited = change
        return not self._is_over

    def end(self) -> None:
        """Take the next answer, whatever it is."""
        self.awaited, self._is_over = None, True


def is_held_back(environ: dict[str, Any]) -> bool:
    """Tell whether the answer that was made is not the one that is sent."""
    held: HeldBack | None = environ.get(HELD_BACK)
    return held is not None and held.awaited is not None
