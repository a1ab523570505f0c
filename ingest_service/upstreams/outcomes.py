"""What can be kept of an outcome, whoever it comes from."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ingest_service import json_text
from ingest_service.domain.model import Outcome

#: More seconds than anybody is left alone for.
_LONGEST_WAIT = 1e9
#: Characters of an error that are kept.
LONGEST_ERROR = 2_000
#: Bytes that `encoded_size` counts of an outcome that is kept besides its data, at most: a
#: character of an error takes six.
MOST_BESIDE = len(b'[[[[]]],"",999]') + 6 * LONGEST_ERROR


def bounded(outcome: object, most_bytes: int) -> Outcome:
    """Return `outcome`, or what can be kept of it if its data is larger than `most_bytes` bytes.

    What cannot be kept becomes a failed outcome that says why. It may come from
    somebody else's code, so nothing about it is taken for granted, not even its type.
    """
    if not isinstance(outcome, Outcome):
        kind = type(outcome).__name__
        return Outcome(succeeded=False, error=f"The upstream crashed: TypeError, {kind}.")
    try:
        tidy = _tidied(outcome)
        size = _data_size(tidy)
    except TypeError:
        return Outcome(succeeded=False, error="The answer cannot be kept: it is not JSON.")
    if size <= most_bytes:
        return tidy
    reason = f"The answer is larger than {most_bytes} bytes."
    return Outcome(succeeded=False, error=reason, status_code=tidy.status_code)


def all_bounded(outcomes: Iterable[Any], most_bytes: int) -> list[Outcome]:
    """Return `bounded` of each; where all are small together, none is measured by itself."""
    listed = list(outcomes)
    if all(map(_is_tidy, listed)) and _fit_together(listed, most_bytes):
        return listed
    return [bounded(outcome, most_bytes) for outcome in listed]


def _fit_together(successes: Iterable[Any], most_bytes: int) -> bool:
    """Tell whether even all of them are no larger than one may be."""
    data = [success.processed_data for success in successes]
    try:
        # Nested as deep as in `encoded_size`.
        return len(json_text.dumps([[[data]]])) <= most_bytes
    except TypeError:
        return False


def encoded_size(outcome: Outcome) -> int:
    """Return how many bytes the outcome takes as text; raise `TypeError` if it is not JSON."""
    # Nested, because what can only just be written could not be answered.
    nested = (((outcome.processed_data,),),)
    return len(json_text.dumps((nested, outcome.error, outcome.status_code)))


def _data_size(outcome: Outcome) -> int:
    """Return how many bytes its data takes as text, none where there is no data."""
    size = encoded_size(outcome)
    if outcome.processed_data is None:
        return 0
    return size - len(json_text.dumps(((((),),), outcome.error, outcome.status_code)))


def bounded_together(outcomes: Sequence[Outcome], most_bytes: int) -> list[Outcome]:
    """Return the outcomes of a batch; those that would make it larger than allowed fail."""
    kept: list[Outcome] = []
    left = most_bytes
    for outcome in outcomes:
        size = encoded_size(outcome)
        if size > left:
            error = f"The answers of the batch are larger than {most_bytes} bytes together."
            kept.append(Outcome(succeeded=False, error=error, status_code=outcome.status_code))
        else:
            left -= size
            kept.append(outcome)
    return kept


def seconds_asked(outcome: object) -> float | None:
    """Return for how long an outcome asks to leave the upstream alone; None for nonsense."""
    asked = outcome.retry_after if isinstance(outcome, Outcome) else None
    # No float is as large as a number can be.
    return (
        float(min(asked, _LONGEST_WAIT)) if isinstance(asked, int | float) and asked > 0 else None
    )


def _tidied(outcome: Outcome) -> Outcome:
    """Return the outcome with fields of the right types, which do not contradict each other."""
    if _is_tidy(outcome):
        return outcome
    succeeded = bool(outcome.succeeded)
    return replace(
        outcome,
        succeeded=succeeded,
        error=_words(outcome.error),
        status_code=_status(outcome.status_code),
        transient=bool(outcome.transient and not succeeded),
        unreachable=bool(outcome.unreachable and not succeeded),
        unsent=bool(outcome.unsent and not succeeded),
        retry_after=seconds_asked(outcome),
    )


def _is_tidy(outcome: object) -> bool:
    """Tell whether it is a plain success, as nearly all are: nothing has to be made of it."""
    return (
        isinstance(outcome, Outcome)
        and outcome.succeeded is True
        and outcome.error is None
        and outcome.retry_after is None
        and not (outcome.transient or outcome.unreachable or outcome.unsent)
        and (
            outcome.status_code is None
            or (type(outcome.status_code) is int and 0 <= outcome.status_code < 1_000)
        )
    )


def _words(error: Any) -> str | None:
    if error is None:
        return None
    text = error if isinstance(error, str) else json_text.dumps(error).decode()
    return text if len(text) <= LONGEST_ERROR else text[: LONGEST_ERROR - 1] + "…"


def _status(code: Any) -> int | None:
    fits = isinstance(code, int) and not isinstance(code, bool) and 0 <= code < 1_000
    return int(code) if fits else None
