"""The keys file: TOML, one `[[keys]]` table a key."""

import re
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from ingest_service.domain.model import Priority
from ingest_service.errors import SettingsError
from ingest_service.keys.key import KEY, NAME, Key
from ingest_service.keys.scope import Scope
from ingest_service.watched_file import read_private

SETTING = "INGEST_API_KEYS_FILE"

GRANTED = [scope.value for scope in Scope if scope is not Scope.OPEN]
MOST_A_MINUTE = 60_000
MOST_ITEMS = 2**40

_HEADER = re.compile(r"""\s*\[\[\s*(?:keys|"keys"|'keys')\s*\]\]\s*(?:#.*)?""")
_AT_LINE = re.compile(r"\(at line (\d+), column \d+\)")


class KeysFileError(SettingsError):
    """A keys file is wrong: where, and what is allowed; never what it says, which may be secret."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")


def read_keys(path: str, named: str | None = None) -> tuple[Key, ...]:
    """Return the keys in the file at `path`; raise `SettingsError`.

    Errors say that the setting names it, unless it is `named` otherwise.
    """
    named = named or f"{SETTING}={path!r}"
    try:
        return parse_keys(read_private(named, path).decode())
    except UnicodeDecodeError:
        raise SettingsError(f"{named}: it must be UTF-8 text.") from None
    except KeysFileError as error:
        raise SettingsError(f"{named}: {error}") from None


def parse_keys(text: str) -> tuple[Key, ...]:
    """Return the keys that `text` describes; raise `KeysFileError`."""
    if text.startswith("\ufeff"):
        raise KeysFileError(1, "it begins with a byte order mark; save it as UTF-8 without one.")
    lines = text.split("\n")
    tables = _tables(text, lines)
    spans = spans_of(lines)
    if len(spans) != len(tables):
        raise KeysFileError(1, "each key must be a table of its own, below a line `[[keys]]`.")
    keys: list[Key] = []
    digests: set[bytes] = set()
    lasting: set[str] = set()
    for table, (start, end) in zip(tables, spans, strict=True):
        key = _key(table, _Place(lines, start, end, len(keys) + 1))
        _check_against(digests, lasting, key, start + 1)
        keys.append(key)
        digests.add(key.digest)
        if key.expires_at is None:
            lasting.add(key.name)
    return tuple(keys)


def spans_of(lines: list[str]) -> list[tuple[int, int]]:
    """Return where each table begins, and where the next one does."""
    headers = [number for number, line in enumerate(lines) if _HEADER.fullmatch(line.rstrip())]
    return list(pairwise([*headers, len(lines)]))


class _Place:
    """Where in the file a table is, for people."""

    def __init__(self, lines: list[str], start: int, end: int, number: int) -> None:
        self._lines = lines
        self._start = start
        self._end = end
        self.key = f"key {number}"

    def error(self, field: str | None, reason: str) -> KeysFileError:
        """Return the error that names the line of `field`, or of the table."""
        line = self._start
        if field is not None:
            begins = re.compile(rf"""\s*["']?{re.escape(field)}["']?\s*[=.]""")
            found = (at for at in range(line + 1, self._end) if begins.match(self._lines[at]))
            line = next(found, line)
        return KeysFileError(line + 1, f"{self.key}: {reason}")


def _tables(text: str, lines: list[str]) -> list[dict[str, Any]]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _AT_LINE.search(str(error))
        raise KeysFileError(
            int(place[1]) if place else len(lines), "this is not TOML (https://toml.io)."
        ) from None
    except (ValueError, RecursionError):
        raise KeysFileError(
            1, "it has a number that is too long, or is nested too deeply."
        ) from None
    tables = document.pop("keys", [])
    if document or not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise KeysFileError(1, "a keys file has `[[keys]]` tables and nothing else.")
    return tables


def _key(table: dict[str, Any], place: _Place) -> Key:
    values: dict[str, Any] = {}
    if "name" in table:
        values["name"] = _field("name", table["name"], place)
        if KEY.fullmatch(values["name"]):
            raise place.error(None, "its `name` is a key itself, which must be told to nobody.")
        place.key = f"key {values['name']!r}"
    for field in ("name", "sha256", "scopes"):
        if field not in table:
            raise place.error(None, f"it has no `{field}`, which must be {_FIELDS[field][1]}.")
    for field, value in table.items():
        if field not in _FIELDS:
            raise place.error(field, f"it may have {', '.join(_FIELDS)}, and nothing else.")
        values[field] = _field(field, value, place)
    return Key(digest=values.pop("sha256"), **values)


def _field(field: str, value: Any, place: _Place) -> Any:
    read, allowed = _FIELDS[field]
    try:
        return read(value)
    except (ValueError, TypeError, KeyError):
        raise place.error(field, f"`{field}` must be {allowed}.") from None


def _check_against(digests: set[bytes], lasting: set[str], key: Key, line: int) -> None:
    """Refuse a digest that an earlier key has, and the name of one that does not expire."""
    if key.digest in digests:
        raise KeysFileError(line, f"key {key.name!r}: another key has the same `sha256`.")
    if key.expires_at is None and key.name in lasting:
        raise KeysFileError(
            line,
            f"key {key.name!r}: another key has this name; of two, the one that is replaced must "
            "have `expires_at`.",
        )


def _name(value: Any) -> str:
    if not NAME.fullmatch(value):
        raise ValueError
    return str(value)


def _digest(value: Any) -> bytes:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError
    return bytes.fromhex(value)


def _scopes(value: Any) -> frozenset[Scope]:
    if type(value) is not list or not value or not all(word in GRANTED for word in value):
        raise ValueError
    return frozenset(Scope(word) for word in value)


def _priority(value: Any) -> Priority:
    return Priority[value]


def _whole(most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is not int or not 1 <= value <= most:
            raise ValueError
        return value

    return read


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError
    return value


def _time(value: Any) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError
    try:
        return value.astimezone(UTC)
    except OverflowError:
        # At an end of the calendar, and beyond it in UTC.
        raise ValueError from None


_FIELDS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "name": (_name, "1 to 64 letters, digits, `.`, `_` and `-`, a letter or digit first"),
    "sha256": (_digest, "the SHA-256 of the whole key, 64 hexadecimal digits"),
    "scopes": (_scopes, f"a list of one or more of {', '.join(GRANTED)}"),
    "max_priority": (_priority, f"one of {', '.join(Priority.__members__)}"),
    "requests_per_minute": (_whole(MOST_A_MINUTE), f"a whole number from 1 to {MOST_A_MINUTE}"),
    "max_queued_items": (_whole(MOST_ITEMS), f"a whole number from 1 to {MOST_ITEMS}"),
    "own_only": (_truth, "true or false"),
    "expires_at": (_time, "a time with a time zone, as in 2027-01-01T00:00:00Z"),
}
