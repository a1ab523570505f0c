"""Who is served next."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from ingest_service.domain.model import Priority

#: The classes of twelve slots under the weighted policy, 8:3:1, spread evenly.
CYCLE = tuple(
    Priority[{"H": "HIGH", "M": "MEDIUM", "L": "LOW"}[letter]] for letter in "HHMHHLHHMHHM"
)


class Policy(StrEnum):
    """Who is served when several classes wait."""

    #: HIGH before MEDIUM before LOW, always.
    STRICT = "strict"
    #: As strict, but waiting raises the class.
    AGED = "aged"
    #: 8 of 12 slots for HIGH, 3 for MEDIUM, 1 for LOW; what a class does not need, others get.
    WEIGHTED = "weighted"


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy with its number."""

    policy: Policy = Policy.STRICT
    #: Seconds of waiting that raise the class by one, under `AGED`.
    aged_after: float = 600.0


class QueueEntry(NamedTuple):
    """What waits of an ingestion."""

    sequence: int
    priority: Priority
    #: Since when the ingestion has been waiting (monotonic).
    since: float
    ingestion_id: str
    #: Batches that could be started now.
    batches: int = 1


def choose(heads: Sequence[QueueEntry], rule: Rule, slot: int, at: float) -> int:
    """Return which of `heads` slot number `slot`, open at `at`, serves.

    `heads` are the first of each class, most urgent class first; there is at least one.
    `slot` counts from 0.
    """
    if rule.policy is Policy.AGED:
        return min(range(len(heads)), key=lambda index: _rank(heads[index], rule, at))
    if rule.policy is Policy.WEIGHTED:
        turn = CYCLE[slot % len(CYCLE)]
        for index, head in enumerate(heads):
            if head.priority == turn:
                return index
    return 0


def steps(head: QueueEntry, rule: Rule, at: float) -> int:
    """Return by how many classes waiting has raised `head` at `at`."""
    if rule.policy is not Policy.AGED:
        return 0
    return int(max(0.0, at - head.since) // rule.aged_after)


def _rank(head: QueueEntry, rule: Rule, at: float) -> tuple[int, int]:
    return max(int(Priority.HIGH), head.priority - steps(head, rule, at)), head.sequence
