"""How a command on this machine fails: in one line."""

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from ingest_service.cli.output import say
from ingest_service.errors import IngestServiceError

T = TypeVar("T")


def told(function: Callable[..., T]) -> Callable[..., T]:
    """Answer the errors of the service with a line, and the exit status 1."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> T:
        try:
            return function(*arguments, **options)
        except IngestServiceError as error:
            say(f"ingest_service: {error}", err=True)
            sys.exit(1)

    return wrapped
