"""Looking back: what happened, in steps."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from flask import Blueprint, Response
from marshmallow import ValidationError, post_load, validate

from ingest_service.domain.history import PeriodError, Step
from ingest_service.domain.model import Priority
from ingest_service.domain.rollup import (
    BATCH_OUTCOMES,
    ITEM_OUTCOMES,
    UPSTREAM,
    WAIT,
    Counts,
    Histogram,
    both,
    settled_batches,
    settled_items,
)
from ingest_service.engines import history
from ingest_service.errors import StorageUnavailable
from ingest_service.keys.scope import Scope
from ingest_service.web.history_schemas import History
from ingest_service.web.openapi import operation
from ingest_service.web.query_schemas import PeriodQuery, WholeNumber
from ingest_service.web.request import parse_query, the_service
from ingest_service.web.responses import answer, timestamp

bp = Blueprint("history", __name__)

_MINUTE = 60
_YEAR = 366 * 86_400
_QUANTILES = {"p50": 0.5, "p95": 0.95}
_WAITS = _QUANTILES | {"max": 1.0}


def _by_class(of: Callable[[Priority], Any]) -> dict[str, Any]:
    return {priority.name: of(priority) for priority in Priority}


def _both(event: str) -> dict[str, Any]:
    names = "batches", "items"
    return _by_class(lambda priority: dict(zip(names, both(event, priority), strict=True)))


#: What the numbers of a step are counted by.
_ACCEPTED, _STARTED, _DEPTH = _both("accepted"), _both("started"), _both("depth")
_SETTLED = _by_class(
    lambda priority: {
        "batches": {word: settled_batches(priority, word) for word in BATCH_OUTCOMES},
        "items": {word: settled_items(priority, word) for word in ITEM_OUTCOMES},
    }
)
_WAIT = _by_class(WAIT.__getitem__)


class _Minutes(WholeNumber):
    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        seconds = super()._deserialize(value, *args, **kwargs)
        if seconds % _MINUTE:
            raise ValidationError("This must be a multiple of 60.")
        return seconds


class HistoryQuery(PeriodQuery):
    """From when to when, and in which steps."""

    step = _Minutes(
        validate=validate.Range(_MINUTE, _YEAR),
        metadata={"description": "seconds of a step, whole minutes", "multipleOf": _MINUTE},
    )

    @post_load
    def to_arguments(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Return what the service is asked with."""
        step = data.get("step")
        return {
            "since": data.get("from_", data.get("from")),
            "until": data.get("to"),
            "step": None if step is None else timedelta(seconds=step),
        }


@bp.get("/queue/history")
@operation(
    tag="Control",
    scope=Scope.READ,
    query=HistoryQuery,
    returns=(History,),
    raises=(StorageUnavailable,),
)
def show_history() -> Response:
    """Look back.

    What was accepted, started and settled, the slots that there were, what waited, how long it
    did, and how long the upstream took, in steps: the last hour in 60, unless you ask for
    something else; 1,000 at most. Counted by the minute: the first step begins with the minute
    of `from`, or before it if no `step` is asked for, because then they begin at round times. As
    long as finished work is kept. Times are told as the upper bounds of the buckets in which
    they are counted.
    """
    try:
        told = the_service().queries.history(**parse_query(HistoryQuery))
    except PeriodError as error:
        raise ValidationError({error.part: [str(error)]}) from None
    return answer(rendered(told))


def rendered(told: history.History) -> dict[str, Any]:
    """Return it in the words of the answer; by hand, because it can be large."""
    return {
        "from": timestamp(told.since),
        "to": timestamp(told.until),
        "step_seconds": told.step // timedelta(seconds=1),
        "steps": [_step(step) for step in told.steps],
        "marks": [
            {"at": timestamp(mark.at), "kind": mark.kind.value, "detail": mark.detail}
            for mark in told.marks
        ],
    }


def _step(step: Step) -> dict[str, Any]:
    counts, depth = step.counts, step.depth
    return {
        "at": timestamp(step.at),
        "accepted": _each_of(_ACCEPTED, counts),
        "started": _each_of(_STARTED, counts),
        "settled": {name: _each_of(of_class, counts) for name, of_class in _SETTLED.items()},
        "slots": step.slots,
        "depth": dict.fromkeys(_DEPTH) if depth is None else _each_of(_DEPTH, depth),
        "wait_seconds": {name: _spread(wait, counts, _WAITS) for name, wait in _WAIT.items()},
        "upstream_seconds": _spread(UPSTREAM, counts, _QUANTILES),
    }


def _each_of(counters: Mapping[str, Mapping[str, str]], counts: Counts) -> dict[str, Any]:
    return {
        key: {word: counts.get(name, 0) for word, name in names.items()}
        for key, names in counters.items()
    }


def _spread(
    histogram: Histogram, counts: Counts, shares: dict[str, float]
) -> dict[str, float | None] | None:
    values = histogram.quantiles(counts, shares.values())
    return None if values is None else dict(zip(shares, values, strict=True))
