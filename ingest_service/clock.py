"""The only module that reads time or waits for it."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Time for everything else; a test brings its own."""

    def now(self) -> datetime:
        """Return the wall-clock time in UTC, for people and for records."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never run backwards, for what is compared."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block for `seconds`; may return early."""
        ...

    def wait_for(self, condition: threading.Condition, ready: Callable[[], object]) -> None:
        """Block, however long it takes, until `ready()` is true; the caller holds `condition`."""
        ...


class SystemClock:
    """The machine's clocks.

    `sleep` cannot be frozen, so what is slept for must not be frozen either: the
    real clock is kept where freezegun does not replace it.
    """

    def __init__(self) -> None:
        (self._monotonic,) = _MONOTONIC

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return self._monotonic()

    def now(self) -> datetime:
        """Return the wall-clock time in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Block for `seconds`."""
        time.sleep(seconds)

    def wait_for(self, condition: threading.Condition, ready: Callable[[], object]) -> None:
        """Block until `ready()` is true."""
        condition.wait_for(ready)


# In a tuple, because freezegun replaces what it finds as a module's attribute.
_MONOTONIC = (time.monotonic,)
