"""Waiting for something to happen, with a deadline."""

import time
from collections.abc import Callable


def eventually(happened: Callable[[], object], seconds: float = 20.0) -> None:
    """Return once `happened()` is true; fail if it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"did not happen within {seconds} s"
        time.sleep(0.005)
