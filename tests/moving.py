"""A queue with everything in it that can be, for whoever moves one."""

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from ingest_service.domain.model import Batch, Outcome
from ingest_service.engines import ListQuery
from ingest_service.engines.transfer.lines import Reader, Summary
from ingest_service.settings import Settings
from tests.restarts import restarting
from tests.support import Api

SETTINGS = Settings(settle=0, max_concurrent_batches=2)
BUSY = Outcome(succeeded=False, error="busy", status_code=503, transient=True)


def reply(batch: Batch) -> list[Outcome]:
    """Return what an API says that is busy at first, and does not know every item."""
    return [_outcome(batch, item) for item in batch.items]


def _outcome(batch: Batch, item: Any) -> Outcome:
    number = item if isinstance(item, int) else int(item["id"][1:])
    if number % 7 == 0:
        return Outcome(succeeded=False, error="no such id", status_code=404)
    if number == 11 and batch.attempt == 1:
        return replace(BUSY, retry_after=12.5)
    if number % 5 == 0 and batch.attempt < 3:
        return BUSY
    return Outcome(succeeded=True, processed_data={"number": [number, 1e-7, 2**70, "é"]})


Step = tuple[Any, ...]
_PRIORITIES = st.sampled_from(["HIGH", "MEDIUM", "LOW"])
_WHICH = st.integers(0, 9)
#: What can happen to a queue, in any order.
STORIES = st.lists(
    st.one_of(
        st.tuples(st.just("ids"), st.integers(1, 12), _PRIORITIES),
        st.tuples(st.just("mappings"), st.integers(1, 8), _PRIORITIES),
        st.tuples(st.just("keyed"), st.sampled_from("abc")),
        st.tuples(st.just("advance"), st.sampled_from([0.5, 1, 3, 7, 20, 400])),
        st.tuples(st.just("move"), _WHICH, _PRIORITIES),
        st.tuples(st.sampled_from(["cancel", "retry", "delete"]), _WHICH),
        st.tuples(st.just("interval"), st.sampled_from([1.5, 5])),
        st.tuples(st.sampled_from(["pause", "resume"])),
    ),
    min_size=5,
    max_size=25,
)
#: One with everything in it.
STORY: list[Step] = [
    ("ids", 9, "LOW"),
    ("keyed", "a"),
    ("advance", 60),
    ("ids", 4, "HIGH"),
    ("mappings", 7, "MEDIUM"),
    ("advance", 21),
    ("delete", 1),
    ("ids", 12, "LOW"),
    ("ids", 6, "MEDIUM"),
    ("cancel", 4),
    ("advance", 11),
    ("retry", 0),
    ("ids", 3, "LOW"),
    ("move", 5, "HIGH"),
    ("interval", 2.5),
    ("pause",),
    ("resume",),
    ("advance", 3),
]


def tell(api: Api, story: list[Step]) -> list[str]:
    """Let the steps of a story happen, one after the other; return what was submitted."""
    api.upstream.reply = reply
    submitted: list[str] = []
    for name, *values in story:
        if name == "ids":
            submitted.append(api.ingest(range(1, values[0] + 1), values[1]))
        elif name == "keyed":
            body = {"ids": [1, 5, 7], "priority": "LOW"}
            api.client.post("/ingest", json=body, headers={"Idempotency-Key": values[0]})
        elif name == "mappings":
            submitted.append(api.ingest_mappings(*values))
        elif name == "advance":
            api.advance(*values)
        elif name in ("pause", "resume", "interval"):
            _change(api, name, values)
        elif submitted:
            _control(api, name, submitted[values[0] % len(submitted)], values[1:])
    return submitted


def _change(api: Api, name: str, values: list[Any]) -> None:
    if name == "interval":
        answer = api.client.patch("/queue", json={"interval_seconds": values[0]})
        assert answer.status_code == 200, answer.text
    else:
        api.client.post(f"/queue/{name}", json={"reason": "lunch"} if name == "pause" else None)


def _control(api: Api, name: str, ingestion_id: str, values: list[Any]) -> None:
    path = f"/ingestions/{ingestion_id}"
    if name == "delete":
        api.client.delete(path)
    elif name == "move":
        api.client.patch(path, json={"priority": values[0]})
    else:
        api.client.post(f"{path}/{name}")


def exported(export: Callable[[str, Any], Summary], journal: str) -> bytes:
    """Return what a journal is moved by."""
    stream = io.BytesIO()
    export(journal, stream)
    return stream.getvalue()


def reader(text: bytes) -> Reader:
    """Return what reads it."""
    return Reader(io.BytesIO(text), "the file")


def begin_and_end(
    api: Api, submitted: list[str], *, waits: bool = True
) -> tuple[list[Any], list[Any], list[Any]]:
    """Let everything come to its end; return how it was before, what was sent, how it is then.

    Two starts are never closer than the interval; one that `waits` waits for it first.
    """
    api.upstream.reply = reply
    before = shown(api, submitted)
    interval = api.client.get("/queue").get_json()["interval_seconds"]
    finish(api)
    starts = [api.began] * waits + [at for at, _ in api.upstream.starts]
    assert all(later - earlier >= interval - 1e-6 for earlier, later in pairwise(starts))
    return before, sent(api), shown(api, submitted, with_times=False)


def finish(api: Api) -> None:
    """Let everything come to its end."""
    api.client.post("/queue/resume")
    while api.parts.engine.reading.ingestions(ListQuery(2**62, 1, unfinished=True)):
        api.advance(60)


def shown(api: Api, ingestion_ids: list[str], *, with_times: bool = True) -> list[Any]:
    """Return all that is told about ingestions, but for what tells of the moment."""
    told = []
    for ingestion_id in ingestion_ids:
        status = api.status(ingestion_id)
        results = api.results(ingestion_id).get("results", [])
        batches = [(one["batch_id"], one["status"]) for one in status.get("batches", ())]
        keys = ["status", "priority", "counts", "outcome", "created_at"]
        if with_times:
            keys.append("started_at")
        else:
            results = [{**one, "timestamp": None} for one in results]
        told.append([*(status.get(key) for key in keys), batches, results])
    return told


def sent(api: Api) -> list[tuple[str, int, list[Any]]]:
    """Return what reached the upstream, in its order."""
    starts = api.upstream.starts
    return [(batch.batch_id, batch.attempt, list(batch.items)) for _, batch in starts]


def told_in_a_file(path: Path, story: list[Step]) -> tuple[list[str], str]:
    """Let a story happen to a service that is killed at its end; return when to go on, as well."""
    with restarting(path, SETTINGS) as lives:
        submitted = tell(lives.api, story)
        later = datetime.now(UTC) + timedelta(seconds=100)
    return submitted, later.isoformat()


def begun_and_ended(
    path: Path, submitted: list[str], at: str, *, waits: bool = True
) -> tuple[list[Any], ...]:
    """Go on with a journal in a file; see `begin_and_end`."""
    with restarting(path, SETTINGS, at=at) as lives:
        return begin_and_end(lives.api, submitted, waits=waits)
