"""A process that may open nothing more."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let nothing be opened inside, whatever some other thread closes meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # As many as a process always has: those in use stay.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
