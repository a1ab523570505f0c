"""What a setting can be: how it is read, what is accepted, and how that is said."""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

DAY = 86_400
_LONGEST = 36_500 * DAY
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": DAY}
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_ORIGIN = re.compile(
    r"(?i:https?)://(?:[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)


class Kind(Protocol):
    """What a knob accepts; its bounds are here and nowhere else."""

    @property
    def allowed(self) -> str:
        """What is accepted, in words."""
        ...

    def read(self, text: str) -> Any:
        """Return the value that `text` says; raise ValueError."""
        ...

    def check(self, value: Any) -> Any:
        """Return `value` in its normal form; raise ValueError if it is not accepted."""
        ...


@dataclass(frozen=True, slots=True)
class Number:
    """A number between two bounds."""

    low: float
    high: float
    what: str = "a number of seconds"

    @property
    def allowed(self) -> str:
        """Name the bounds."""
        return f"{self.what} from {self.low:.15g} to {self.high:.15g}"

    def read(self, text: str) -> float:
        """Take what Python takes, but for underscores and the digits of other scripts."""
        return float(_plain(text))

    def check(self, value: Any) -> float:
        """Make a minus zero a zero."""
        if type(value) not in (int, float) or not self.low <= value <= self.high:
            raise ValueError
        return float(value) + 0.0


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number between two bounds."""

    low: int
    high: int
    what: str = "a whole number"

    @property
    def allowed(self) -> str:
        """Name the bounds."""
        return f"{self.what} from {self.low} to {self.high}"

    def read(self, text: str) -> int:
        """Take what Python takes, but for underscores and the digits of other scripts."""
        return int(_plain(text))

    def check(self, value: Any) -> int:
        """Refuse booleans, which count as integers."""
        if type(value) is not int or not self.low <= value <= self.high:
            raise ValueError
        return value


class Choice:
    """One of some words; a word that is a number is kept as one."""

    def __init__(self, *choices: str | int) -> None:
        self._choices = {str(choice): choice for choice in choices}
        self.allowed = f"one of {', '.join(self._choices)}"

    def read(self, text: str) -> str | int:
        """Look the word up."""
        if text not in self._choices:
            raise ValueError
        return self._choices[text]

    def check(self, value: Any) -> str | int:
        """Refuse what is not among them, and true for 1."""
        if type(value) not in (int, str) or value not in self._choices.values():
            raise ValueError
        return cast(str | int, value)


@dataclass(frozen=True, slots=True)
class Text:
    """A text on one line that `fits`, a check that raises ValueError."""

    allowed: str
    fits: Callable[[str], None] = lambda text: None

    def read(self, text: str) -> str:
        """Take it as it is."""
        return text

    def check(self, value: Any) -> str:
        """Refuse what would not be seen, or not be one line."""
        if type(value) is not str or not value.strip() or not value.isprintable():
            raise ValueError
        self.fits(value)
        return value


class Duration:
    """Seconds, written as a whole number with a unit."""

    allowed = "a whole number followed by s, m, h or d, as in `7d`, at most 36500d"

    def read(self, text: str) -> float:
        """Multiply the number by its unit."""
        number, unit = text[:-1], text[-1:]
        if unit not in _UNITS or not number.isascii() or not number.isdecimal():
            raise ValueError
        # An integer that is no float any more is too long in any case.
        return float(min(int(number) * _UNITS[unit], _LONGEST + 1))

    def check(self, value: Any) -> float:
        """Refuse what lies beyond all calendars."""
        return Number(0, _LONGEST).check(value)


class Origins:
    """Origins of pages, as browsers write them, separated by commas."""

    allowed = "origins as in `https://ingest.example`, separated by commas; `*` is none"

    def read(self, text: str) -> tuple[str, ...]:
        """Take them apart."""
        return tuple(each.strip() for each in text.split(","))

    def check(self, value: Any) -> tuple[str, ...]:
        """Compare as browsers do: without regard to case, and without the usual port."""
        if type(value) is not tuple or not all(
            type(each) is str and _ORIGIN.fullmatch(each) for each in value
        ):
            raise ValueError
        return tuple(without_usual_port(each.lower()) for each in value)


class Hosts:
    """Names or addresses of machines, separated by commas."""

    allowed = "names or addresses without ports, separated by commas"

    def read(self, text: str) -> tuple[str, ...]:
        """Take them apart."""
        return tuple(each.strip() for each in text.split(","))

    def check(self, value: Any) -> tuple[str, ...]:
        """Compare as names are compared: without regard to case."""
        if type(value) is not tuple or not all(
            type(each) is str and _HOST.fullmatch(each) for each in value
        ):
            raise ValueError
        return tuple(each.lower() for each in value)


def _plain(text: str) -> str:
    if not text.isascii() or "_" in text:
        raise ValueError
    return text


def is_url(text: str) -> None:
    """Raise ValueError unless `text` is an address of http or https, without secrets."""
    url = urlsplit(text)
    # Secrets are read from files: a setting shows up in logs and process lists.
    if url.scheme not in ("http", "https") or not url.hostname or set("@{}") & set(url.netloc):
        raise ValueError
    # Raises for what is not a port.
    _ = url.port
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError


def is_host(text: str) -> None:
    """Raise ValueError unless `text` is the name or the address of a machine."""
    if not _HOST.fullmatch(text):
        # Raises for what is not an address, in brackets or not.
        ipaddress.ip_address(text)


def without_usual_port(origin: str) -> str:
    """Return an origin, in lower case, as browsers write it."""
    return origin.removesuffix(":80" if origin.startswith("http:") else ":443")
