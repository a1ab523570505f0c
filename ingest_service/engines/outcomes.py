"""Outcomes as text: a hundred bytes an item instead of a thousand."""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

from ingest_service import json_text
from ingest_service.domain.model import Batch, ItemState, Outcome

_TRANSIENT = attrgetter("transient")


def final_outcomes(batch: Batch, outcomes: Sequence[Outcome]) -> tuple[Sequence[int], bytes]:
    """Return the offsets whose outcome will not change any more, and those outcomes as text."""
    if not any(map(_TRANSIENT, outcomes)):
        return batch.offsets, encode_outcomes(outcomes)
    pairs = zip(batch.offsets, outcomes, strict=True)
    final = [(offset, outcome) for offset, outcome in pairs if not outcome.transient]
    return [offset for offset, _ in final], encode_outcomes(outcome for _, outcome in final)


def encode_outcomes(outcomes: Iterable[Outcome]) -> bytes:
    """Return outcomes as JSON.

    Raise `TypeError` if there is something in them that JSON cannot say.
    """
    # A copy: orjson leaves up to 4 KiB allocated behind the text it returns.
    return bytes(memoryview(json_text.dumps([_row(outcome) for outcome in outcomes])))


def decode_outcomes(text: bytes) -> list[Outcome]:
    """Return the outcomes that `encode_outcomes` made `text` of."""
    return [Outcome(*row) for row in json_text.loads(text)]


def final_states(text: bytes) -> bytes:
    """Return the states of the items whose outcomes `encode_outcomes` made `text` of."""
    rows = json_text.loads(text)
    return bytes([ItemState.SUCCEEDED if row[0] else ItemState.FAILED for row in rows])


def _row(outcome: Outcome) -> tuple[Any, ...]:
    """Return what is kept of an outcome, without what goes without saying at its end."""
    row = outcome.succeeded, outcome.processed_data, outcome.error, outcome.status_code
    if outcome.attempts != 1:
        return *row, outcome.attempts
    if outcome.status_code is not None:
        return row
    if outcome.error is not None:
        return row[:3]
    return row[: 1 if outcome.processed_data is None else 2]
