"""What a look costs: counted in lines that are run, and never one for each that waits."""

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest

from ingest_service.domain.items import Ids
from ingest_service.domain.model import Priority
from ingest_service.engines import ListQuery
from ingest_service.settings import Settings
from tests.support import Api, serving

FEW, MANY = 300, 12_000
PRIORITIES = tuple(Priority)


def steps(look: Callable[[], object]) -> int:
    """Return how many lines of this service `look` runs, each turn of a loop anew."""
    counted = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal counted
        if "ingest_service" not in frame.f_code.co_filename:
            return None
        counted += event in {"call", "line"}
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        look()
    finally:
        sys.settrace(before)
    return counted


def fill(api: Api, count: int) -> list[str]:
    """Let ingestions of two batches wait in all classes; return some of their ids."""
    accept = api.parts.service.submissions.accept
    ids = [
        accept(Ids([1, 2, 3, 4]), PRIORITIES[number % 3]).ingestion_id for number in range(count)
    ]
    return [ids[0], ids[count // 2], ids[-1]]


def measured(policy: str, count: int) -> dict[str, int]:
    """Return what looks cost with so many ingestions waiting, after some were served."""
    with serving(Settings(policy=policy, interval=1), threaded=False) as api:
        ids = fill(api, count)
        api.advance(20)
        queries, operator = api.parts.service.queries, api.parts.service.operator

        def changed_queue() -> None:
            api.parts.service.submissions.accept(Ids([1]), Priority.LOW)
            queries.queue()

        looks: dict[str, Callable[[], object]] = {
            "queue": queries.queue,
            "queue after a change": changed_queue,
            "health": queries.health,
            "middle": lambda: queries.estimate(ids[1]),
            "last": lambda: queries.estimate(ids[2]),
            "status": lambda: queries.status(ids[1], 0, 10),
            "list": lambda: queries.ingestions(ListQuery(2**62, 10)),
            "plan": lambda: api.parts.service.submissions.plan(Ids([1]), Priority.LOW),
            "turn": api.parts.worker.step,
            "cancel": lambda: operator.cancel(ids[1]),
        }
        if policy == "aged":
            # It is walked through once a version, see below, and for each newcomer.
            queries.estimate(ids[1])
            del looks["plan"], looks["queue after a change"]
        return {name: steps(look) for name, look in looks.items()}


@pytest.mark.parametrize("policy", ["strict", "weighted", "aged"])
def test_no_look_goes_through_everything_that_waits(policy: str) -> None:
    """Forty times as many ingestions take a few steps more, not forty times as many."""
    few, many = measured(policy, FEW), measured(policy, MANY)
    assert {name: (few[name], many[name]) for name in few if many[name] > 3 * few[name]} == {}


def test_under_the_aged_policy_everything_is_walked_through_once_a_version() -> None:
    """However many ask."""
    with serving(Settings(policy="aged"), threaded=False) as api:
        ids = fill(api, FEW)
        first, *others = (steps(partial(estimate, api, each)) for each in ids * 2)
        assert all(20 * other < first for other in others)
        api.ingest([1], "LOW")
        again, other = (steps(partial(estimate, api, ids[2])) for _ in range(2))
        assert 20 * other < again


def estimate(api: Api, ingestion_id: str) -> None:
    """Ask what an ingestion can expect."""
    assert api.parts.service.queries.estimate(ingestion_id) is not None
