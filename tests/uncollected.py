"""What holds itself: it stays until the collector comes by, which a test can keep away."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


@contextmanager
def uncollected() -> Iterator[None]:
    """Leave inside what holds itself where it is."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alive(kind: type[T], which: Callable[[T], Any] = bool) -> list[T]:
    """Return the objects of a kind that something holds."""
    return [each for each in gc.get_objects() if type(each) is kind and which(each)]
