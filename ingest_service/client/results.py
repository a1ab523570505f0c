"""Results as they come: memory does not grow with them."""

from collections.abc import Iterable, Iterator

import orjson

from ingest_service.client.errors import BadAnswer
from ingest_service.client.fields import Fields
from ingest_service.client.transport import MAX_ANSWER, Request
from ingest_service.client.values import Result


def results_request(ingestion_id: str, form: str, outcome: str | None) -> Request:
    """Return the question for a stream of results, as `ndjson` or `csv`."""
    return Request("GET", f"/status/{ingestion_id}/results", {"format": form, "outcome": outcome})


def lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a stream without their ends; raise `BadAnswer` if one has none."""
    rest: list[bytes] = []
    length = 0
    for piece in pieces:
        *whole, last = piece.split(b"\n")
        for line in whole:
            yield b"".join((*rest, line))
            rest, length = [], 0
        rest.append(last)
        length += len(last)
        if length > MAX_ANSWER:
            raise BadAnswer(f"A line of the results is longer than {MAX_ANSWER} bytes.")
    if line := b"".join(rest):
        yield line


def parse(line: bytes) -> Result:
    """Return the result in a line; raise `BadAnswer`."""
    try:
        return Result.parse(Fields(orjson.loads(line)))
    except ValueError as error:
        raise BadAnswer("A line of the results is not JSON.") from error
