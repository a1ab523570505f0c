"""Following an ingestion: an answer a visible change, and hardly a request more."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from ingest_service.client.errors import Busy, TimedOut, Unreachable
from ingest_service.client.transport import Answer, Request, Transport
from ingest_service.client.values import Status

#: Seconds that the service may hold an unchanged answer back.
LONGEST_WAIT = 60
#: Seconds from one request to the next at least: nobody reads faster.
AT_MOST_EVERY = 0.1


def follow(transport: Transport, ingestion_id: str, timeout: float | None) -> Iterator[Status]:
    """Yield the status now and whenever it changes, until it is finished.

    Raise `TimedOut` after `timeout` seconds, if there is one.
    """
    if timeout is not None and math.isnan(timeout):
        raise ValueError("A time-out is a number of seconds.")
    deadline = math.inf if timeout is None else transport.clock.monotonic() + timeout
    etag: str | None = None
    while True:
        asked_at = transport.clock.monotonic()
        try:
            answer = transport.send(_question(ingestion_id, etag, deadline, asked_at))
        except (Busy, Unreachable) as error:
            if transport.clock.monotonic() < deadline:
                raise
            raise TimedOut(f"{_late(ingestion_id, timeout)} as far as known: {error}") from error
        if answer.status != 304:
            etag = answer.headers.get("ETag")
            status = Status.parse(answer.fields())
            yield status
            if status.is_finished:
                return
        now = transport.clock.monotonic()
        if now >= deadline:
            raise TimedOut(f"{_late(ingestion_id, timeout)}; it goes on.")
        transport.clock.sleep(min(_pause(answer, now - asked_at), deadline - now))


def _late(ingestion_id: str, timeout: float | None) -> str:
    return f"{ingestion_id} is not finished after {round(timeout or 0.0, 3):g} s"


def _question(ingestion_id: str, etag: str | None, deadline: float, now: float) -> Request:
    # Not a fraction of a second beyond what is left: the service counts in whole ones.
    wait = int(min(LONGEST_WAIT, max(0.0, deadline - now))) if etag is not None else 0
    return status_request(ingestion_id, etag, wait, deadline)


def status_request(
    ingestion_id: str, etag: str | None = None, wait: int = 0, until: float = math.inf
) -> Request:
    """Return the question where an ingestion is; its batches are not asked for."""
    return Request(
        "GET",
        f"/status/{ingestion_id}",
        {"limit": 1, "wait": wait or None},
        headers={} if etag is None else {"If-None-Match": etag},
        held_back=wait,
        until=until,
    )


def _pause(answer: Answer, took: float) -> float:
    """Return for how long not to ask.

    An unchanged answer that was not held back comes from a service that holds enough back
    already, or has just been started: then it says when to come again.
    """
    if answer.status != 304 or took >= 1:
        return max(0.0, AT_MOST_EVERY - took)
    after = answer.headers.get("Retry-After", "")
    return min(float(after), LONGEST_WAIT) if after.isdecimal() and len(after) < 9 else 1.0


def last(statuses: Iterator[Status], look: Callable[[Status], Any]) -> Status:
    """Return the last of `statuses`, of which there is at least one; `look` sees them all."""
    for status in statuses:
        look(status)
    return status
