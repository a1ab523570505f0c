"""JSON text with integers of any size; orjson, which is fast, knows only 64 bits.

What is read here can be written here, and the other way round.
"""

import json
from typing import Any

import orjson

#: Only with so many digits in a row an integer can be beyond 64 bits.
_LONG = b"0" * 19
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")


def loads(text: bytes) -> Any:
    """Return what `text` says, integers exactly; raise `ValueError` if it is not JSON."""
    # Six times as fast as a regular expression, which has to stop at every digit.
    if _LONG not in text.translate(_DIGITS_TO_ZERO):
        return orjson.loads(text)
    try:
        return json.loads(text.decode(), parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def dumps(value: Any) -> bytes:
    """Return `value` as text; raise `TypeError` for what JSON cannot say."""
    try:
        return orjson.dumps(value)
    except TypeError:
        # Perhaps only because of an integer: those are put in as text.
        return _dump_exactly(value)


def _dump_exactly(value: Any) -> bytes:
    try:
        return orjson.dumps(_exact(value))
    except (RecursionError, ValueError) as error:
        raise TypeError(f"it cannot be written: {type(error).__name__}") from error


def _exact(value: Any) -> Any:
    """Return `value` with the text of every integer that is too long for orjson."""
    if isinstance(value, dict):
        return {key: _exact(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(inner) for inner in value]
    if type(value) is int and not -(2**63) <= value < 2**64:
        # Raises ValueError beyond Python's own limit of digits.
        return orjson.Fragment(str(value).encode())
    return value


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError("it is too large a number")
    return number
