"""Every knob, its default, and what it accepts."""

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Protocol, Self, cast
from urllib.parse import urlsplit

from ingest_service.errors import SettingsError

PREFIX = "INGEST_"


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


def _knob(default: Any, kind: Kind, about: str) -> Any:
    """Declare a setting; one whose default is None may stay away."""
    return field(default=default, metadata={"kind": kind, "about": about})


def _plain(text: str) -> str:
    if not text.isascii() or "_" in text:
        raise ValueError
    return text


def _is_upstream(text: str) -> None:
    if text == SIMULATED or re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text, re.ASCII):
        return
    by_batch = text.startswith(BATCH)
    _is_url(text.removeprefix(BATCH))
    if ("{id}" in text) == by_batch:
        raise ValueError


def _is_url(text: str) -> None:
    url = urlsplit(text)
    # Secrets are read from files: a setting shows up in logs and process lists.
    if url.scheme not in ("http", "https") or not url.hostname or set("@{}") & set(url.netloc):
        raise ValueError
    # Raises for what is not a port.
    _ = url.port
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError


def _is_host(text: str) -> None:
    if not _HOST.fullmatch(text):
        # Raises for what is not an address, in brackets or not.
        ipaddress.ip_address(text)


def without_usual_port(origin: str) -> str:
    """Return an origin, in lower case, as browsers write it."""
    return origin.removesuffix(":80" if origin.startswith("http:") else ":443")


def _is_journal(text: str) -> None:
    # An address of something that is not supported would become a file of that name.
    if "://" in text and not text.startswith(DATABASE):
        raise ValueError
    # Secrets are read from files: a setting shows up in logs and process lists.
    if text.startswith(DATABASE) and (urlsplit(text).password or "password=" in text):
        raise ValueError


#: The upstream that is none.
SIMULATED = "simulated"
#: What begins the address of an upstream that takes a batch a request.
BATCH = "batch+"

#: The journal that is none.
IN_MEMORY = "memory"
SERVER_JOURNAL = "ingest.sqlite3"
#: What begins the address of a database that is the journal of any number of processes.
DATABASE = "postgresql://"

_DAY = 86_400
_LONGEST = 36_500 * _DAY
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": _DAY}
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_ORIGIN = re.compile(
    r"(?i:https?)://(?:[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)
_SECONDS = Number(0, _DAY)
_RATE = Number(0, 1, "a number")
_BATCH_SIZE = Whole(1, 10_000)
_FILE = Text("the path of a file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration; in the environment a name is upper-case and begins with `INGEST_`.

    Whoever makes one with a value that is not allowed gets a `SettingsError`.
    """

    batch_size_ids: int = _knob(3, _BATCH_SIZE, "ids sent together")
    batch_size_mappings: int = _knob(5, _BATCH_SIZE, "mappings sent together")
    interval: float = _knob(5.0, _SECONDS, "seconds from one batch start to the next; 0 = no limit")
    settle: float = _knob(0.45, _SECONDS, "seconds an empty queue waits for more before it starts")
    max_concurrent_batches: int = _knob(1, Whole(1, 1_000), "batches under way at the same time")
    policy: str = _knob(
        "strict",
        Choice("strict", "aged", "weighted"),
        "who is served first: by class; by class, which waiting raises; or 8:3:1",
    )
    aged_after: float = _knob(
        600.0,
        Number(1, 30 * _DAY),
        "seconds of waiting that raise the class by one, with policy aged",
    )
    upstream: str = _knob(
        SIMULATED,
        Text(
            "`simulated`, http(s)://host/path/{id}, batch+http(s)://host/path "
            "(without user or password), or package.module:callable",
            _is_upstream,
        ),
        "the external API",
    )
    upstream_timeout: float = _knob(30.0, Number(0.01, 3_600), "for a whole request")
    upstream_max_response: int = _knob(
        2**20, Whole(1, 2**30, "a whole number of bytes"), "size of an answer in bytes, an item"
    )
    upstream_headers_file: str | None = _knob(
        None, _FILE, "a file of `Name: value` lines sent along; secrets"
    )
    upstream_ca: str | None = _knob(
        None, _FILE, "the certificates (PEM) that vouch for the upstream"
    )
    upstream_proxy: str | None = _knob(
        None,
        Text("http(s)://host:port", _is_url),
        "a proxy; those of the environment are ignored",
    )
    upstream_max_hold: float = _knob(
        3_600.0, _SECONDS, "longest `Retry-After` that is obeyed, in seconds"
    )
    max_attempts: int = _knob(5, Whole(1, 100), "how often an item is sent at most")
    backoff: float = _knob(1.0, _SECONDS, "longest wait before the second attempt; then it doubles")
    backoff_max: float = _knob(300.0, _SECONDS, "longest wait before any attempt, in seconds")
    simulated_latency: float = _knob(1.0, _SECONDS, "seconds a simulated batch takes")
    simulated_success_rate_ids: float = _knob(1.0, _RATE, "share of the ids that succeed")
    simulated_success_rate_mappings: float = _knob(0.9, _RATE, "share of the mappings that succeed")
    simulated_seed: int | None = _knob(
        None, Whole(0, 2**63 - 1), "makes the simulated failures repeatable"
    )
    max_items: int = _knob(1_000_000, Whole(1, 10_000_000), "items one request may have")
    max_body: int = _knob(
        64 * 2**20, Whole(1, 2**32, "a whole number of bytes"), "size of a request body in bytes"
    )
    min_response_rate: int = _knob(
        1_000,
        Whole(0, 2**30, "a whole number of bytes a second"),
        "a client that takes less of its answer, over 30 s, is cut off; 0 = nobody is",
    )
    max_queued_items: int = _knob(10_000_000, Whole(1, 2**40), "items that may wait at a time")
    max_ingestions: int = _knob(100_000, Whole(1, 10_000_000), "ingestions that may wait at a time")
    journal: str = _knob(
        IN_MEMORY,
        Text(
            "the path of a file, `memory`, or postgresql://user@host/database (without password)",
            _is_journal,
        ),
        f"what keeps accepted work; the server's default is {SERVER_JOURNAL}",
    )
    database_password_file: str | None = _knob(
        None, _FILE, "a file with the password of the database"
    )
    min_free_disk: int = _knob(
        256 * 2**20,
        Whole(0, 2**50, "a whole number of bytes"),
        "bytes that stay free beside the journal: with less, no new work is taken",
    )
    retention: float = _knob(
        7.0 * _DAY, Duration(), "how long finished ingestions can be asked for"
    )
    validation_status: int = _knob(
        400, Choice(400, 422), "the status of a body that is JSON and not valid"
    )
    unknown_keys: str = _knob(
        "refuse", Choice("refuse", "ignore"), "what becomes of keys that nobody knows"
    )
    host: str = _knob(
        "localhost",
        Text("a name or an address, without a port", _is_host),
        "where the server listens; `localhost` is both loopback addresses, `0.0.0.0` and `::` all",
    )
    api_keys_file: str | None = _knob(
        None, _FILE, "the keys (TOML) of those who may come in; without it all who reach it may"
    )
    insecure: str = _knob(
        "no", Choice("no", "yes"), "let whole networks in without keys, and under every name"
    )
    allowed_hosts: tuple[str, ...] = _knob(
        (), Hosts(), "names in `Host` besides those of this machine; others get a 403"
    )
    cors_origins: tuple[str, ...] = _knob(
        (), Origins(), "other origins whose pages may use the API in a browser"
    )
    trusted_proxies: int = _knob(
        0, Whole(0, 10), "proxies in front that set `X-Forwarded-*`, which is ignored otherwise"
    )
    log_level: str = _knob("INFO", Choice("DEBUG", "INFO", "WARNING", "ERROR"), "what is logged")

    def __post_init__(self) -> None:
        for knob in fields(self):
            value = getattr(self, knob.name)
            if value is None and knob.default is None:
                continue
            try:
                checked = knob.metadata["kind"].check(value)
            except ValueError:
                raise _refusal(knob, value) from None
            # The way around `frozen` that dataclasses themselves take.
            object.__setattr__(self, knob.name, checked)

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **defaults: Any) -> Self:
        """Read the settings; raise `SettingsError` at the first one that is wrong.

        `defaults` stand in for what the environment does not say.
        """
        knobs = {PREFIX + knob.name.upper(): knob for knob in fields(cls)}
        given = {name: text for name, text in environ.items() if name.startswith(PREFIX)}
        values = dict(defaults)
        for name, text in sorted(given.items()):
            if name not in knobs:
                _refuse_if_misspelt(name, knobs)
                continue
            knob = knobs[name]
            kind = knob.metadata["kind"]
            try:
                # Checked here too, because only here it is known how it was written.
                values[knob.name] = kind.check(kind.read(text))
            except ValueError:
                raise _refusal(knob, text) from None
        return cls(**values)

    @property
    def item_limit(self) -> int:
        """How many items a request may have: never more than the queue can hold."""
        return min(self.max_items, self.max_queued_items)


def _refusal(knob: Field[Any], value: object) -> SettingsError:
    name, allowed = PREFIX + knob.name.upper(), knob.metadata["kind"].allowed
    if knob.name == "journal" and isinstance(value, str):
        value = _without_secrets(value)
    shown = repr(value[:80] if isinstance(value, str) else value)[:90]
    return SettingsError(f"{name}={shown} is not allowed: it must be {allowed}.")


def _without_secrets(text: str) -> str:
    """Leave out what may be a password."""
    text = re.sub(r"//([^/:]*):[^/]*@", r"//\1:...@", text)
    return re.sub(r"password=[^&\s]*", "password=...", text)


def _refuse_if_misspelt(name: str, knobs: Mapping[str, object]) -> None:
    # Variables of others may share the prefix; a near miss is a typo.
    near = difflib.get_close_matches(name.upper(), knobs, n=1, cutoff=0.85)
    if near:
        raise SettingsError(f"{name} is not a setting; did you mean {near[0]}?")
