"""Every knob, its default, and what it accepts."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self
from urllib.parse import urlsplit

from ingest_service.errors import SettingsError

PREFIX = "INGEST_"

Parse = Callable[[str], Any]


def _knob(default: Any, parse: Parse, allowed: str, about: str) -> Any:
    """Declare a setting: `parse` raises ValueError for anything that is not `allowed`."""
    return field(default=default, metadata={"parse": parse, "allowed": allowed, "about": about})


def _number(low: float, high: float) -> Parse:
    def parse(text: str) -> float:
        value = float(text)
        if not text.isascii() or "_" in text or not low <= value <= high:
            raise ValueError
        return value

    return parse


def _integer(low: int, high: int) -> Parse:
    def parse(text: str) -> int:
        value = int(text)
        if not text.isascii() or "_" in text or not low <= value <= high:
            raise ValueError
        return value

    return parse


def _one_of(*values: str) -> Parse:
    def parse(text: str) -> str:
        if text not in values:
            raise ValueError
        return text

    return parse


def _duration(text: str) -> float:
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isascii() or not number.isdecimal():
        raise ValueError
    seconds = int(number) * int(_UNITS[unit])
    if seconds > _LONGEST:
        raise ValueError
    return float(seconds)


def _one_line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError
    return text


def _upstream(text: str) -> str:
    if text == SIMULATED or re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text, re.ASCII):
        return text
    by_batch = text.startswith(BATCH)
    _check_url(text.removeprefix(BATCH))
    if ("{id}" in text) == by_batch:
        raise ValueError
    return text


def _proxy(text: str) -> str:
    _check_url(text)
    return text


def _check_url(text: str) -> None:
    url = urlsplit(text)
    # Secrets are read from files: a setting shows up in logs and process lists.
    if url.scheme not in ("http", "https") or not url.hostname or set("@{}") & set(url.netloc):
        raise ValueError
    # Raises for what is not a port.
    _ = url.port
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError


#: The upstream that is none.
SIMULATED = "simulated"
#: What begins the address of an upstream that takes a batch a request.
BATCH = "batch+"

#: The journal that is none.
IN_MEMORY = "memory"
SERVER_JOURNAL = "ingest.sqlite3"

_DAY = 86_400.0
_LONGEST = 36_500 * _DAY
_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": _DAY}
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_seconds = _number(0, _DAY)
_rate = _number(0, 1)
_seconds_allowed = "a number of seconds from 0 to 86400"
_rate_allowed = "a number from 0 to 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration; in the environment a name is upper-case and begins with `INGEST_`."""

    batch_size_ids: int = _knob(
        3, _integer(1, 10_000), "a whole number from 1 to 10000", "ids sent together"
    )
    batch_size_mappings: int = _knob(
        5, _integer(1, 10_000), "a whole number from 1 to 10000", "mappings sent together"
    )
    interval: float = _knob(
        5.0, _seconds, _seconds_allowed, "seconds from one batch start to the next; 0 = no limit"
    )
    settle: float = _knob(
        0.4, _seconds, _seconds_allowed, "seconds an empty queue waits for more before it starts"
    )
    max_concurrent_batches: int = _knob(
        1, _integer(1, 1_000), "a whole number from 1 to 1000", "batches under way at the same time"
    )
    policy: str = _knob(
        "strict",
        _one_of("strict", "aged", "weighted"),
        "one of strict, aged, weighted",
        "who is served first: by class; by class, which waiting raises; or 8:3:1",
    )
    aged_after: float = _knob(
        600.0,
        _number(1, 30 * _DAY),
        "a number of seconds from 1 to 2592000",
        "seconds of waiting that raise the class by one, with policy aged",
    )
    upstream: str = _knob(
        SIMULATED,
        _upstream,
        "`simulated`, http(s)://host/path/{id}, batch+http(s)://host/path "
        "(without user or password), or package.module:callable",
        "the external API",
    )
    upstream_timeout: float = _knob(
        30.0, _number(0.01, 3_600), "a number of seconds from 0.01 to 3600", "for a whole request"
    )
    upstream_max_response: int = _knob(
        2**20,
        _integer(1, 2**30),
        "a whole number of bytes from 1 to 1073741824",
        "size of an answer in bytes, an item",
    )
    upstream_headers_file: str | None = _knob(
        None, _one_line, "the path of a file", "a file of `Name: value` lines sent along; secrets"
    )
    upstream_ca: str | None = _knob(
        None, _one_line, "the path of a file", "the certificates (PEM) that vouch for the upstream"
    )
    upstream_proxy: str | None = _knob(
        None, _proxy, "http(s)://host:port", "a proxy; those of the environment are ignored"
    )
    upstream_max_hold: float = _knob(
        3_600.0, _seconds, _seconds_allowed, "longest `Retry-After` that is obeyed, in seconds"
    )
    max_attempts: int = _knob(
        5, _integer(1, 100), "a whole number from 1 to 100", "how often an item is sent at most"
    )
    backoff: float = _knob(
        1.0, _seconds, _seconds_allowed, "longest wait before the second attempt; then it doubles"
    )
    backoff_max: float = _knob(
        300.0, _seconds, _seconds_allowed, "longest wait before any attempt, in seconds"
    )
    simulated_latency: float = _knob(
        1.0, _seconds, _seconds_allowed, "seconds a simulated batch takes"
    )
    simulated_success_rate_ids: float = _knob(
        1.0, _rate, _rate_allowed, "share of the ids that succeed"
    )
    simulated_success_rate_mappings: float = _knob(
        0.9, _rate, _rate_allowed, "share of the mappings that succeed"
    )
    simulated_seed: int | None = _knob(
        None, _integer(0, 2**63 - 1), "a whole number", "makes the simulated failures repeatable"
    )
    max_items: int = _knob(
        1_000_000,
        _integer(1, 10_000_000),
        "a whole number from 1 to 10000000",
        "items one request may have",
    )
    max_body: int = _knob(
        64 * 2**20,
        _integer(1, 2**32),
        "a whole number of bytes from 1 to 4294967296",
        "size of a request body in bytes",
    )
    max_queued_items: int = _knob(
        10_000_000,
        _integer(1, 2**40),
        "a whole number from 1 to 1099511627776",
        "items that may wait at a time",
    )
    journal: str = _knob(
        IN_MEMORY,
        _one_line,
        "the path of a file, or `memory`",
        "the file that keeps accepted work; the server's default is ingest.sqlite3",
    )
    retention: float = _knob(
        7 * _DAY,
        _duration,
        "a whole number followed by s, m, h or d, as in `7d`, at most 36500d",
        "how long finished ingestions can be asked for",
    )
    log_level: str = _knob(
        "INFO", _one_of(*_LEVELS), "one of " + ", ".join(_LEVELS), "what is logged"
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **defaults: Any) -> Self:
        """Read the settings; raise `SettingsError` at the first one that is wrong.

        `defaults` stand in for what the environment does not say.
        """
        knobs = {PREFIX + each.name.upper(): each for each in fields(cls)}
        given = {name: text for name, text in environ.items() if name.startswith(PREFIX)}
        values = dict(defaults)
        for name, text in sorted(given.items()):
            if name not in knobs:
                _refuse_if_misspelt(name, knobs)
                continue
            knob = knobs[name]
            try:
                values[knob.name] = knob.metadata["parse"](text)
            except ValueError:
                allowed = knob.metadata["allowed"]
                raise SettingsError(
                    f"{name}={text[:80]!r} is not allowed: it must be {allowed}."
                ) from None
        return cls(**values)

    @property
    def item_limit(self) -> int:
        """How many items a request may have: never more than the queue can hold."""
        return min(self.max_items, self.max_queued_items)


#: Named in the contract, and dangerous to ignore.
_UNSUPPORTED = ("API_KEYS_FILE",)


def _refuse_if_misspelt(name: str, knobs: Mapping[str, object]) -> None:
    if name.removeprefix(PREFIX) in _UNSUPPORTED:
        raise SettingsError(f"{name} is not supported yet; it would protect nothing.")
    # Variables of others may share the prefix; a near miss is a typo.
    near = difflib.get_close_matches(name.upper(), knobs, n=1, cutoff=0.85)
    if near:
        raise SettingsError(f"{name} is not a setting; did you mean {near[0]}?")
