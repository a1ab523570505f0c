"""Why an ingestion waits, and until when: a pure function of a snapshot."""

from dataclasses import dataclass

from ingest_service.domain.model import Ingestion
from ingest_service.domain.pace import Pace
from ingest_service.domain.schedule import Entry, Forecast, Situation, choose


@dataclass(frozen=True, slots=True)
class Why:
    """The one reason why an ingestion is not finished yet."""

    code: str
    message: str
    #: Monotonic instant at which that ends, None if nobody knows.
    until: float | None


@dataclass(frozen=True, slots=True)
class Outlook:
    """What an unfinished ingestion can expect; instants are monotonic."""

    forecast: Forecast | None
    #: When everything of it has ended, None if nobody knows.
    finish_at: float | None
    why: Why
    #: When something of it will change, None if nobody knows.
    changes_at: float | None


def outlook(
    situation: Situation,
    pace: Pace,
    ingestion: Ingestion,
    forecast: Forecast | None,
    ends_at: float | None,
) -> Outlook:
    """Return what `ingestion` can expect.

    `ends_at` is when its batch under way will have ended, None if there is none.
    """
    waits = ingestion.left or any(due.entry.ingestion is ingestion for due in situation.retries)
    finish_at = forecast.finish_at if forecast else None
    if not waits:
        finish_at = ends_at
    elif finish_at is not None and ends_at is not None:
        finish_at = max(finish_at, ends_at)
    starts_at = forecast.next_start_at if forecast else None
    changes = [at for at in (ends_at, starts_at) if at is not None]
    return Outlook(
        forecast=forecast,
        finish_at=finish_at,
        why=_why(situation, pace, ingestion, forecast, ends_at),
        changes_at=min(changes, default=None),
    )


def _why(
    situation: Situation,
    pace: Pace,
    ingestion: Ingestion,
    forecast: Forecast | None,
    ends_at: float | None,
) -> Why:
    retries = [due.at for due in situation.retries if due.entry.ingestion is ingestion]
    if not ingestion.left and not retries:
        return Why("max_concurrent", "Its last batch is under way.", ends_at)
    if pace.paused is not None:
        return Why("paused", f"The queue is paused: {pace.paused or 'no reason given'}.", None)
    if not ingestion.left:
        return Why("retry_backoff", "What has failed is tried again later.", min(retries))
    if pace.closed_until > situation.now:
        reason = "asked to be left alone" if pace.held_until >= pace.probe_at else "is not there"
        return Why("upstream_hold", f"The upstream {reason}.", pace.closed_until)
    first = _served_next(situation)
    if first is not None and first.ingestion is not ingestion:
        starts_at = forecast.next_start_at if forecast else None
        if first.priority < ingestion.priority:
            return Why("higher_priority", "More urgent ingestions go first.", starts_at)
        return Why("in_line", "Ingestions that came earlier go first.", starts_at)
    return _why_not_now(situation, pace)


def _served_next(situation: Situation) -> Entry | None:
    if not situation.heads:
        return None
    at = max(situation.now, situation.rhythm.opens_at)
    return situation.heads[choose(situation.heads, situation.rule, situation.slot, at)]


def _why_not_now(situation: Situation, pace: Pace) -> Why:
    rhythm = situation.rhythm
    if len(rhythm.ends) >= rhythm.concurrent and min(rhythm.ends) > pace.next_at:
        message = "As many batches as allowed are under way."
        return Why("max_concurrent", message, min(rhythm.ends))
    if rhythm.opens_at > max(pace.next_at, situation.now):
        return Why("settling", "Requests posted together are put in order.", rhythm.opens_at)
    return Why("rate_limit", "It is next; the slot opens at the pace.", rhythm.opens_at)
