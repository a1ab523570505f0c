"""What is done about the outcomes of a batch: a plain decision, nothing is changed here."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from ingest_service.domain.model import Batch, Outcome, Resend, states_of
from ingest_service.domain.retry_policy import CircuitBreaker, RetryPolicy


class Decision(NamedTuple):
    """What becomes of the items of a batch."""

    #: One an item that was sent, in their order; final unless it is transient.
    outcomes: Sequence[Outcome]
    #: What states they leave the items in, a byte each.
    states: bytes
    #: What is sent again; None if every outcome is final.
    resend: Resend | None
    #: How many seconds after `decided_at`.
    wait: float
    #: Whether the upstream can be reached, as far as this batch can tell.
    breaker: CircuitBreaker
    #: For how many seconds an upstream that cannot be reached is left alone; None if it can.
    probe_wait: float | None
    #: When the batch ended, and when that was seen: what waits counts from there (monotonic).
    ended_at: float
    decided_at: float


def decide(
    batch: Batch,
    outcomes: Sequence[Outcome],
    policy: RetryPolicy,
    breaker: CircuitBreaker,
    *,
    interval: float,
    ended_at: float,
    decided_at: float,
) -> Decision:
    """Return what becomes of `batch`, whose call gave `outcomes`, one an item.

    `interval` is the time between slots in seconds; the instants are monotonic.
    """
    after = breaker.after(outcomes)
    # An attempt that nobody can have noticed is not the item's fault.
    nobody_there = after.is_open and all(outcome.unreachable for outcome in outcomes)
    counts = not (nobody_there or all(outcome.unsent for outcome in outcomes))
    decided, resend, attempt = outcomes, None, batch.attempt
    if any(outcome.transient or outcome.attempts != attempt for outcome in outcomes):
        decided = [_counted(outcome, attempt, policy, counts=counts) for outcome in outcomes]
        # What is left was tried once more, unless none of it was ever sent.
        tried = counts and not all(outcome.unsent for outcome in decided if outcome.transient)
        resend = _resend(batch, decided, attempt + tried)
    return Decision(
        outcomes=decided,
        states=states_of(decided),
        resend=resend,
        # Those who were not there are waited for as a whole.
        wait=policy.wait(batch.attempt) if resend and not nobody_there else 0.0,
        breaker=after,
        probe_wait=policy.wait_to_probe(after, interval) if after.is_open else None,
        ended_at=ended_at,
        decided_at=decided_at,
    )


def _counted(outcome: Outcome, attempt: int, policy: RetryPolicy, *, counts: bool) -> Outcome:
    """Return the outcome with its number of attempts; the last attempt makes it final."""
    if outcome.attempts == attempt and not outcome.transient:
        return outcome
    # What was never sent has not failed, however its batch mates fared.
    counts = counts and not outcome.unsent
    exhausted = outcome.transient and counts and attempt >= policy.max_attempts
    return replace(outcome, attempts=attempt, transient=outcome.transient and not exhausted)


def _resend(batch: Batch, outcomes: Sequence[Outcome], attempt: int) -> Resend | None:
    offsets: Sequence[int] = [
        offset for offset, outcome in zip(batch.offsets, outcomes, strict=True) if outcome.transient
    ]
    if not offsets:
        return None
    if len(offsets) == len(batch.offsets):
        # The same request again, to be known by the same key.
        offsets = batch.offsets
    return batch.pick(offsets, attempt)
