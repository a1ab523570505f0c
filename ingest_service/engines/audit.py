"""Who did what, and when: the record of changes, and how to ask for it."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple


class MarkKind(StrEnum):
    """What somebody, or something, has done to the queue."""

    PAUSE = "pause"
    RESUME = "resume"
    INTERVAL = "interval"
    HOLD = "hold"
    RESTART = "restart"
    MOVE = "move"
    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"
    KEYS = "keys"


@dataclass(frozen=True, slots=True)
class Mark:
    """A change worth remembering; `before` and `after` are anything that JSON can say."""

    at: datetime
    kind: MarkKind
    before: Any = None
    after: Any = None
    #: Name of the API key that did it, None without one.
    key: str | None = None
    #: Id of the ingestion it was done to, None for the queue as a whole.
    target: str | None = None
    request_id: str | None = None


class Action(StrEnum):
    """What somebody can do that is kept on record."""

    SUBMIT = "submit"
    CANCEL = MarkKind.CANCEL
    MOVE = MarkKind.MOVE
    RETRY = MarkKind.RETRY
    DELETE = MarkKind.DELETE
    PAUSE = MarkKind.PAUSE
    RESUME = MarkKind.RESUME
    INTERVAL = MarkKind.INTERVAL
    KEYS = MarkKind.KEYS


class AuditPlace(NamedTuple):
    """Where an entry stands among all; the newest is the greatest."""

    #: Microseconds since 1970.
    at: int
    #: 1 for a mark, 0 for a submission.
    source: int
    number: int


#: After everything that there can be.
NEWEST = AuditPlace(2**62, 0, 0)


class AuditEntry(NamedTuple):
    """Who did what, and when; `before` and `after` are anything that JSON can say."""

    place: AuditPlace
    at: datetime
    key: str | None
    action: Action
    target: str | None
    before: Any
    after: Any
    request_id: str | None


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which entries, newest first."""

    #: Only those since then, and before then.
    since: datetime
    until: datetime
    limit: int
    #: Only those that stand before this one.
    before: AuditPlace = NEWEST
    #: Only what was done with the key of this name.
    key: str | None = None
    actions: Collection[Action] = tuple(Action)
