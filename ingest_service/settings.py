"""Every knob, its default, and what it accepts."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Self
from urllib.parse import urlsplit

from ingest_service.errors import SettingsError
from ingest_service.setting_kinds import (
    DAY,
    Choice,
    Duration,
    Hosts,
    Kind,
    Number,
    Origins,
    Text,
    Whole,
    is_host,
    is_url,
)

PREFIX = "INGEST_"


def _knob(default: Any, kind: Kind, about: str) -> Any:
    """Declare a setting; one whose default is None may stay away."""
    return field(default=default, metadata={"kind": kind, "about": about})


def _is_upstream(text: str) -> None:
    if text == SIMULATED or re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text, re.ASCII):
        return
    by_batch = text.startswith(BATCH)
    is_url(text.removeprefix(BATCH))
    if ("{id}" in text) == by_batch:
        raise ValueError


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

_SECONDS = Number(0, DAY)
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
        Number(1, 30 * DAY),
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
        Text("http(s)://host:port", is_url),
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
    retention: float = _knob(7.0 * DAY, Duration(), "how long finished ingestions can be asked for")
    validation_status: int = _knob(
        400, Choice(400, 422), "the status of a body that is JSON and not valid"
    )
    unknown_keys: str = _knob(
        "refuse", Choice("refuse", "ignore"), "what becomes of keys that nobody knows"
    )
    host: str = _knob(
        "localhost",
        Text("a name or an address, without a port", is_host),
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
    def has_http_upstream(self) -> bool:
        """Whether the external API is asked by HTTP."""
        return "://" in self.upstream

    @property
    def item_limit(self) -> int:
        """How many items a request may have: never more than the queue can hold."""
        return min(self.max_items, self.max_queued_items)


def _refusal(knob: Field[Any], value: object) -> SettingsError:
    name, allowed = PREFIX + knob.name.upper(), knob.metadata["kind"].allowed
    if isinstance(value, str):
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
