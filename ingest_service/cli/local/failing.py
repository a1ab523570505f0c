"""How a command on this machine fails: in one line."""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from ingest_service.cli.output import say
from ingest_service.cli.remote.asking import SOME_FAILED, USAGE
from ingest_service.errors import IngestServiceError

T = TypeVar("T")


def told(function: Callable[..., T]) -> Callable[..., T]:
    """Answer errors with a line, and with the exit status that docs/command.md gives them."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> T:
        try:
            return function(*arguments, **options)
        except IngestServiceError as error:
            _end(error, error.exit_status)
        except UnicodeEncodeError as error:
            # SQLite knows no other names.
            _end(f"{error.object!r} is no text, so it can name nothing here.", USAGE)
        except BrokenPipeError:
            # Whoever reads has seen enough.
            raise
        except OSError as error:
            _end(f"{error.filename or 'the output'}: {error.strerror or error}.", USAGE)

    return wrapped


@contextmanager
def answered_by(error: type[IngestServiceError]) -> Iterator[None]:
    """Take an error for what was asked for: no is the answer, and nothing has gone wrong."""
    try:
        yield
    except error as answer:
        _end(answer, SOME_FAILED)


def _end(text: object, status: int) -> NoReturn:
    say(f"ingest_service: {text}", err=True)
    sys.exit(status)
