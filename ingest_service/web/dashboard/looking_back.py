"""What was, for the first page: charts of a period, and the numbers of today.

However many look, charts are made once a minute, up to the last whole one, and numbers every few
seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from ingest_service.service.queries import Queries
from ingest_service.web.dashboard.charts import PERIODS, Charts, charts
from ingest_service.web.history import rendered

#: Seconds for which the numbers are told again.
_FRESH = 5
#: From here on steps are counted.
_ROUND = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Today:
    """What was settled since midnight (UTC), and how the upstream answered in the last hour."""

    succeeded: int
    failed: int
    p50: float | None
    p95: float | None
    #: Items of the last hour that failed, of all that were settled then; None if none were.
    failing: float | None


@dataclass(frozen=True, slots=True)
class LookingBack:
    """What the first page shows of the past; both are asked with the moment of the page."""

    charts: Callable[[str, datetime], Charts]
    today: Callable[[datetime], Today]


def looking_back(queries: Queries) -> LookingBack:
    """Return what looks back through `queries`."""

    @lru_cache(maxsize=8)
    def drawn(period: str, minute: datetime) -> Charts:
        length, step, _ = PERIODS[period]
        # Steps begin at round times; the last one is not over.
        since = minute - length
        since += (_ROUND - since) % step
        return charts(rendered(queries.history(since, minute, step)))

    @lru_cache(maxsize=2)
    def counted(moment: datetime) -> Today:
        midnight = moment.replace(hour=0, minute=0, second=0)
        today = _items(queries, midnight, moment) if moment > midnight else {}
        # The minute under way included it is an hour: what is asked for begins with its minute.
        since = _whole(moment) - _HOUR + _MINUTE
        (hour,) = rendered(queries.history(since, moment, _HOUR))["steps"]
        items, answers = _settled(hour), hour["upstream_seconds"] or {}
        ended = items["succeeded"] + items["failed"]
        return Today(
            succeeded=today.get("succeeded", 0),
            failed=today.get("failed", 0),
            p50=answers.get("p50"),
            p95=answers.get("p95"),
            failing=items["failed"] / ended if ended else None,
        )

    return LookingBack(
        lambda period, now: drawn(period, _whole(now)),
        lambda now: counted(now.replace(second=now.second // _FRESH * _FRESH, microsecond=0)),
    )


def _whole(now: datetime) -> datetime:
    return now.replace(second=0, microsecond=0)


def _items(queries: Queries, since: datetime, until: datetime) -> dict[str, int]:
    (step,) = rendered(queries.history(since, until, _DAY))["steps"]
    return _settled(step)


def _settled(step: dict[str, Any]) -> dict[str, int]:
    """Return how many items were settled, by outcome."""
    by_class = [of_class["items"] for of_class in step["settled"].values()]
    return {outcome: sum(items[outcome] for items in by_class) for outcome in by_class[0]}
