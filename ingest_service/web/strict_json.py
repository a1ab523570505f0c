"""A reader for JSON from strangers: what RFC 8259 leaves open is refused here.

Duplicate keys, NaN and infinities, numbers that do not fit, nesting without
end, lone surrogates and encodings other than UTF-8 all have readers that
accept, change or crash on them. The work is done by the standard parser.
"""

import codecs
import json
import math
import re
from typing import Any

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


class InvalidJson(ValueError):
    """The text is not JSON that everybody reads alike; the message says where and why."""


def read_json(body: bytes) -> Any:
    """Return the value that `body` says; raise `InvalidJson`."""
    try:
        # RFC 8259, section 8.1: a byte order mark may be ignored; tools on Windows write it.
        text = body.removeprefix(codecs.BOM_UTF8).decode("utf-8")
        value = _decode(text)
        if _SURROGATE_ESCAPE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except InvalidJson:
        raise
    except json.JSONDecodeError as error:
        at = f"line {error.lineno} column {error.colno}"
        raise InvalidJson(f"The body is not valid JSON: {error.msg} at {at}.") from None
    except UnicodeDecodeError as error:
        raise InvalidJson(f"The body is not UTF-8 text: see byte {error.start}.") from None
    except UnicodeEncodeError:
        raise InvalidJson("A string contains half of a surrogate pair.") from None
    except RecursionError:
        raise InvalidJson("The body is nested too deeply.") from None
    except ValueError:
        # The only one left: Python refuses to convert thousands of digits.
        raise InvalidJson("An integer has too many digits.") from None
    return value


def _decode(text: str) -> Any:
    if text.startswith("\ufeff"):
        raise json.JSONDecodeError("Unexpected UTF-8 BOM", text, 0)
    return _DECODER.decode(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidJson(f"The key {json.dumps(twice[:100])} appears twice in one object.")
    return value


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise InvalidJson(f"The number {text[:40]} is too large.")
    return value


def _constant(name: str) -> None:
    raise InvalidJson(f"{name} is not a JSON number.")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
