"""The only module that reads time or waits for it."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Time for everything else; a test brings its own."""

    #: Names what `monotonic` counts from: two processes that read the same name
    #: can compare their readings.
    boot_id: str

    def now(self) -> datetime:
        """Return the wall-clock time in UTC, for people and for records."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never run backwards, for what is compared."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block for `seconds`; may return early."""
        ...

    def wait_for(
        self, condition: threading.Condition, ready: Callable[[], object], timeout: float | None
    ) -> None:
        """Block until `ready()` is true, or `timeout` seconds; the caller holds `condition`."""
        ...


class SystemClock:
    """The machine's clocks.

    `sleep` cannot be frozen, so what is slept for must not be frozen either: the
    real clock is kept where freezegun does not replace it.
    """

    def __init__(self) -> None:
        (self._monotonic,) = _MONOTONIC
        self.boot_id = _boot_id()

    def now(self) -> datetime:
        """Return the wall-clock time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return self._monotonic()

    def sleep(self, seconds: float) -> None:
        """Block for `seconds`."""
        time.sleep(seconds)

    def wait_for(
        self, condition: threading.Condition, ready: Callable[[], object], timeout: float | None
    ) -> None:
        """Block until `ready()` is true, or `timeout` seconds."""
        condition.wait_for(ready, timeout)


# In a tuple, because freezegun replaces what it finds as a module's attribute.
_MONOTONIC = (time.monotonic,)


def _boot_id() -> str:
    """Return what changes whenever the machine's monotonic clock begins anew.

    Linux counts from the boot, for all processes alike, and names the boot. Where
    that cannot be read, each process has an boot_id of its own.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"process {time.time_ns()}"
