"""What can go wrong, as a small tree.

IngestError
├── Unreachable    nobody answered, or the connection broke
├── BadAnswer      what answered does not keep the contract; it may be another server
├── TimedOut       `wait` or `follow` has waited as long as it was told to
└── Refused        the service has said no, in a problem document
    ├── NotAllowed     401 and 403: the key, or what it may do
    ├── NotFound       404
    ├── Conflict       409: not in its present state
    └── Busy           429 and 503: come again, `retry_after` says when
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """One thing that is wrong with a request."""

    #: Where (RFC 6901), empty for the whole of it.
    pointer: str
    detail: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[ErrorEntry, ...] = ()

    @classmethod
    def parse(cls, status: int, document: Any) -> "Problem":
        """Return what `document` says; whatever it is, something can be said."""
        found = document if isinstance(document, dict) else {}
        detail = found.get("detail")
        listed = found.get("errors")
        return cls(
            type=_text(found.get("type"), "about:blank"),
            title=_text(found.get("title"), f"Status {status}"),
            status=status,
            detail=_text(detail, f"The answer was {status}, without a reason."),
            errors=tuple(
                ErrorEntry(_text(entry.get("pointer"), ""), _text(entry.get("detail"), ""))
                for entry in (listed if isinstance(listed, list) else [])
                if isinstance(entry, dict)
            ),
        )


class IngestError(Exception):
    """Whatever the client raises on its own account.

    `key` is the idempotency key of the submission that failed: to submit the same once more
    under it is safe. `accepted` is what had been accepted before that.
    """

    key: str | None = None
    #: Whether the request may have been done all the same: nobody has said that it was not.
    uncertain = False
    accepted: tuple[Any, ...] = ()


class Unreachable(IngestError):
    """Nobody answered, or the connection broke before the end of the answer."""

    #: Whether there was a connection, so that a request may have arrived.
    connected = uncertain = True


class BadAnswer(IngestError):
    """What was answered is not what the contract says."""

    uncertain = True


class TimedOut(IngestError):
    """It is not finished in the time that was given; it goes on."""


class Refused(IngestError):
    """The service has said no."""

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.uncertain = problem.status in _UNCERTAIN
        #: Seconds after which to come again, if the answer says so.
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        # The usual way would give the text of the error to `__init__`.
        return type(self), (self.problem, self.retry_after), self.__dict__


class NotAllowed(Refused):
    """The key is missing or wrong, or may not do this."""


class NotFound(Refused):
    """Nobody knows this id, or not any more."""


class Conflict(Refused):
    """It cannot be done in the present state."""


class Busy(Refused):
    """Not now."""


#: Statuses of those who cannot tell what became of a request.
_UNCERTAIN = (500, 502, 504)
_KINDS: dict[int, type[Refused]] = {
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    429: Busy,
    503: Busy,
}


def is_problem(document: Any) -> bool:
    """Tell whether a JSON value is a problem document as the service writes them."""
    return isinstance(document, dict) and all(
        isinstance(document.get(name), str) for name in ("type", "title", "detail")
    )


def refused(status: int, document: Any, retry_after: float | None) -> Refused:
    """Return the error for an answer with an error's status."""
    return _KINDS.get(status, Refused)(Problem.parse(status, document), retry_after)


def _text(value: object, default: str) -> str:
    return value if isinstance(value, str) else default
