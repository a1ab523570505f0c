"""How a process ends that cannot start: with one line."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ingest_service.errors import IngestServiceError


@contextmanager
def refusals_end_it(status: int | None = None) -> Iterator[None]:
    """End the process if it is refused what it needs, with `status` or that of the error."""
    try:
        yield
    except IngestServiceError as error:
        sys.stderr.write(f"ingest_service: {error}\n")
        sys.exit(error.exit_status if status is None else status)
