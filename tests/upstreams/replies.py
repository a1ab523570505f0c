"""Answers that several tests use."""

import itertools
from collections.abc import Callable

from tests.realtime import (
    Reply,
    Request,
    answer,
)

OK = answer(200, {"fine": True})
#: Tells of ten bytes and sends four.
HALF = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\nhalf"


def first(reply: Reply, then: Reply = OK) -> Callable[[Request], Reply]:
    """Answer the first request with `reply`, all others with `then`."""
    replies = itertools.chain([reply], itertools.repeat(then))
    return lambda _: next(replies)
