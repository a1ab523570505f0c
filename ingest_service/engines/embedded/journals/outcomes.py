"""Outcomes as text: a hundred bytes an item instead of a thousand."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from ingest_service.domain.model import Batch, Outcome

#: Begins a text with integers of more than 64 bits, which orjson would read as floats.
_WIDE = b" "
#: How deep values may be nested, the same as for orjson.
_DEEPEST = 250


def final_outcomes(batch: Batch, outcomes: Sequence[Outcome]) -> tuple[Sequence[int], bytes]:
    """Return the offsets whose outcome will not change any more, and those outcomes as text."""
    pairs = zip(batch.offsets, outcomes, strict=True)
    final = [(offset, outcome) for offset, outcome in pairs if not outcome.transient]
    return [offset for offset, _ in final], encode_outcomes(outcome for _, outcome in final)


def encode_outcomes(outcomes: Iterable[Outcome]) -> bytes:
    """Return outcomes as JSON.

    Raise `TypeError` if there is something in them that JSON cannot say.
    """
    return dump_json([_row(outcome) for outcome in outcomes])


def decode_outcomes(text: bytes) -> list[Outcome]:
    """Return the outcomes that `encode_outcomes` made `text` of."""
    return [Outcome(*row) for row in load_json(text)]


def dump_json(value: Any) -> bytes:
    """Return `value` as JSON, integers of any size included; raise `TypeError` if it cannot be."""
    try:
        text = orjson.dumps(value)
    except TypeError:
        text = _WIDE + orjson.dumps(_widened(value, _DEEPEST))
    # A copy: orjson leaves up to 4 KiB allocated behind the text it returns.
    return bytes(memoryview(text))


def load_json(text: bytes) -> Any:
    """Return the value that `dump_json` made `text` of."""
    return json.loads(text) if text.startswith(_WIDE) else orjson.loads(text)


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


def _widened(value: Any, depth: int) -> Any:
    """Return `value` with its large integers as text that is copied as it is."""
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        try:
            return orjson.Fragment(str(int(value)))
        except ValueError as error:
            raise TypeError("An integer has too many digits.") from error
    if not depth:
        raise TypeError("Values are nested too deeply.")
    if isinstance(value, dict):
        return {key: _widened(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_widened(item, depth - 1) for item in value]
    return value
