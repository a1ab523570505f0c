"""Following several ingestions at once: a live picture, or a line a change."""

import math
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime

import click

from ingest_service.cli.output import can_draw, clock_time, say, say_json
from ingest_service.cli.remote.asking import INTERRUPTED, SOME_FAILED, line, tell
from ingest_service.client import IngestClient, IngestError, Status, TimedOut
from ingest_service.clock import SystemClock

#: How many can be followed at once: each occupies a place at the service.
MOST = 32
#: Seconds after the time-out within which all that is followed should have noticed it.
_GRACE = 1.0
_CLOCK = SystemClock()

_News = tuple[str, Status | Exception]


def watch_all(
    client: IngestClient, ids: Sequence[str], timeout: float | None, *, as_json: bool = False
) -> int:
    """Follow `ids` to their ends; return the exit status.

    Interrupted, it leaves them alone and prints the command that goes on.
    """
    ids = list(dict.fromkeys(ids))
    # One for all, also for those that have to wait until others are finished.
    deadline = math.inf if timeout is None else _CLOCK.monotonic() + timeout
    news: queue.SimpleQueue[_News] = queue.SimpleQueue()
    waiting, worst = list(ids), 0
    with _screen(ids, as_json=as_json) as show:
        for ingestion_id in ids[:MOST]:
            _follow(client, ingestion_id, timeout, news)
        later = ids[MOST:]
        try:
            while waiting:
                late = deadline + (_GRACE if len(waiting) > len(later) else 0.0)
                ingestion_id, status = _next(news, late) or (waiting[0], _too_late(timeout))
                if ingestion_id not in waiting:
                    # It was given up, and is heard of all the same.
                    continue
                if isinstance(status, Status):
                    show(ingestion_id, status)
                    if not status.is_finished:
                        continue
                    worst = max(worst, 0 if status.outcome == "succeeded" else SOME_FAILED)
                elif isinstance(status, IngestError):
                    say(f"{ingestion_id}:", err=True)
                    worst = max(worst, tell(status))
                else:
                    raise status
                waiting.remove(ingestion_id)
                if ingestion_id in later:
                    later.remove(ingestion_id)
                elif later and (now := _CLOCK.monotonic()) < deadline:
                    left = None if timeout is None else deadline - now
                    _follow(client, later.pop(0), left, news)
        except KeyboardInterrupt:
            worst = INTERRUPTED
    if waiting:
        say("Nothing was stopped. To go on watching:", err=True)
        say(f"  {line('ingest-service', 'watch', *waiting, *_where(client))}", err=True)
    return worst


def _where(client: IngestClient) -> list[str]:
    """Return the options that lead to the same service with the same key, as they were given."""
    key_file = click.get_current_context().params.get("key_file")
    url = ["--url", client.url] if "--url" in _arguments() else []
    return [*url, *(["--key-file", key_file] if key_file is not None else [])]


def _arguments() -> list[str]:
    arguments: list[str] = click.get_current_context().meta["arguments"]
    return [argument.partition("=")[0] for argument in arguments]


def _next(news: queue.SimpleQueue[_News], late: float) -> _News | None:
    """Return what comes next, None if nothing does until `late`."""
    left = late - _CLOCK.monotonic()
    try:
        # A time that no lock can wait for is none.
        return news.get(timeout=max(0.0, left) if left < threading.TIMEOUT_MAX else None)
    except queue.Empty:
        return None


def _too_late(timeout: float | None) -> TimedOut:
    return TimedOut(f"It is not finished after {timeout or 0.0:g} s; it goes on.")


def _follow(
    client: IngestClient, ingestion_id: str, timeout: float | None, news: queue.SimpleQueue[_News]
) -> None:
    def run() -> None:
        try:
            for status in client.follow(ingestion_id, timeout):
                news.put((ingestion_id, status))
        except Exception as error:  # noqa: BLE001
            # Whatever it is: nobody would wake the one who waits for the news.
            news.put((ingestion_id, error))

    # It may be in the middle of a request when this process ends.
    threading.Thread(target=run, daemon=True).start()


def _screen(
    ids: Sequence[str], *, as_json: bool
) -> AbstractContextManager[Callable[[str, Status], None]]:
    if as_json:
        return nullcontext(lambda _, status: say_json(status.document))
    if not can_draw():
        return nullcontext(lambda _, status: say(sentence(status)))
    from ingest_service.cli.remote.screens import Watch

    return Watch(ids)


def sentence(status: Status) -> str:
    """Return where an ingestion is in one line."""
    said = [f"{status.ingestion_id}  {status.priority}  {status.status}  {progress(status)}"]
    said += filter(None, (place(status), expectation(status), reason(status)))
    return "; ".join(said)


def progress(status: Status) -> str:
    """Return how much of it is done."""
    counts = status.counts
    said = f"{status.progress} %, {counts.settled:,} of {counts.total:,} settled"
    for number, word in (
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
        (counts.in_flight, "under way"),
    ):
        if number:
            said += f", {number:,} {word}"
    return said


def place(status: Status) -> str:
    """Return its place in the queue, empty if it has none."""
    where = status.queue
    if where.position is None:
        return ""
    return f"position {where.position:,}, {where.batches_ahead or 0:,} batches ahead"


def expectation(status: Status) -> str:
    """Return when it will be served, or how it ended."""
    if status.is_finished:
        return f"{status.outcome} at {clock_time(status.finished_at)}"
    return ", ".join(
        f"{words} {clock_time(at)}" for words, at in _instants(status) if at is not None
    )


def _instants(status: Status) -> list[tuple[str, datetime | None]]:
    return [
        ("yours at" if status.started_at is None else "next batch at", status.eta.next_start_at),
        ("done about", status.eta.finish_at),
    ]


def reason(status: Status) -> str:
    """Return why it is not finished, empty if it is."""
    return status.why_waiting.message
