"""Reading a JSON object key by key; what is not as it should be is named."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Any, TypeVar

from ingest_service.client.errors import BadAnswer

T = TypeVar("T")


class Fields:
    """A JSON object that is read key by key."""

    def __init__(self, document: Any, where: str = "") -> None:
        if not isinstance(document, dict):
            raise BadAnswer(f"{where or '/'} should be an object in the answer.")
        self.document: Mapping[str, Any] = document
        self._where = where

    def text(self, key: str) -> str:
        """Return a text."""
        return self._get(key, str, "a text")

    def count(self, key: str) -> int:
        """Return a whole number."""
        return self._get(key, int, "a whole number")

    def number(self, key: str) -> float:
        """Return a number."""
        return float(self._get(key, (int, float), "a number"))

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self.document.get(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def time(self, key: str) -> datetime:
        """Return a moment, in UTC; one that a calendar of any place has."""
        try:
            moment = datetime.fromisoformat(self.text(key))
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None or not MINYEAR < moment.year < MAXYEAR:
            raise self._wrong(key, "a time")
        return moment.astimezone(UTC)

    def optional(self, key: str, read: Callable[[str], T]) -> T | None:
        """Return what `read` makes of a key, None where it is null or absent."""
        return None if self.document.get(key) is None else read(key)

    def below(self, key: str) -> "Fields":
        """Return an object within this one."""
        return Fields(self.document.get(key), f"{self._where}/{key}")

    def optional_below(self, key: str) -> "Fields":
        """Return an object within this one, an empty one where it is null or absent."""
        return self.optional(key, self.below) or Fields({})

    def listed(self, key: str, read: Callable[["Fields"], T]) -> tuple[T, ...]:
        """Return what `read` makes of each object in a list."""
        entries = self._get(key, list, "a list")
        where = f"{self._where}/{key}"
        return tuple(read(Fields(entry, f"{where}/{at}")) for at, entry in enumerate(entries))

    def _get(self, key: str, kind: type[T] | tuple[type[T], ...], what: str) -> T:
        value = self.document.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self._wrong(key, what)
        return value

    def _wrong(self, key: str, what: str) -> BadAnswer:
        return BadAnswer(f"{self._where}/{key} should be {what} in the answer.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Documented:
    """A value that keeps the answer it was read from."""

    #: All of the answer, also what has no name here.
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
