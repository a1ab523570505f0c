"""`ingest-service keys`: API keys, made and kept in a file."""

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import click

from ingest_service.cli.local.failing import told
from ingest_service.cli.output import say, table
from ingest_service.cli.remote.asking import Command
from ingest_service.clock import SystemClock
from ingest_service.domain.model import Priority
from ingest_service.errors import SettingsError
from ingest_service.keys import editing
from ingest_service.keys.file_format import (
    GRANTED,
    MOST_A_MINUTE,
    MOST_ITEMS,
    SETTING,
    read_keys,
)
from ingest_service.keys.key import NAME, Key, digest_of, fresh_key
from ingest_service.keys.scope import Scope
from ingest_service.setting_kinds import Duration
from ingest_service.settings import SERVER_JOURNAL, Settings

_Read = Callable[[click.Context, click.Parameter, str | None], object]


def _whole(most: int) -> _Read:
    def read(_: object, __: object, text: str | None) -> int | None:
        if text is None:
            return None
        if not re.fullmatch(r"[0-9]{1,15}", text) or not 1 <= int(text) <= most:
            raise click.BadParameter(f"must be a whole number from 1 to {most}")
        return int(text)

    return read


def _name(_: object, __: object, text: str) -> str:
    if not NAME.fullmatch(text):
        raise click.BadParameter("use letters, digits, `.`, `_` and `-`")
    return text


def _duration(_: object, __: object, text: str | None) -> timedelta | None:
    if text is None:
        return None
    try:
        return timedelta(seconds=Duration().check(Duration().read(text)))
    except ValueError:
        raise click.BadParameter(f"must be {Duration.allowed}") from None


def _time(_: object, __: object, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text).replace(microsecond=0)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise click.BadParameter("must be a time with a time zone")
    return at


@click.group(
    epilog="""\b
Examples:
  ingest-service keys new nightly --scope submit --scope read
  ingest-service keys rotate nightly --overlap 24h"""
)
@click.option("--file", metavar="PATH", help=f"The keys file; by default what {SETTING} names.")
@click.pass_context
def keys(context: click.Context, file: str | None) -> None:
    """Make, list, replace and revoke API keys."""
    context.obj = file


@keys.command(
    cls=Command,
    examples=(
        "ingest-service keys new nightly --scope submit --scope read",
        "ingest-service keys new operator --scope operate --scope read --expires-in 90d",
    ),
)
@click.argument("name", callback=_name)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(list(GRANTED)),
    help="What it may do; can be given several times.",
)
@click.option("--max-priority", type=click.Choice(list(Priority.__members__)), default="HIGH")
@click.option("--requests-per-minute", callback=_whole(MOST_A_MINUTE), metavar="N")
@click.option("--max-queued-items", callback=_whole(MOST_ITEMS), metavar="N")
@click.option("--own-only", is_flag=True, help="Only what it submits exists for it.")
@click.option("--expires-in", callback=_duration, metavar="90d")
@click.option("--expires-at", callback=_time, metavar="2027-01-01T00:00:00Z")
@click.pass_obj
@told
def new(
    file: str | None,
    *,
    name: str,
    scopes: tuple[str, ...],
    max_priority: str,
    requests_per_minute: int | None,
    max_queued_items: int | None,
    own_only: bool,
    expires_in: timedelta | None,
    expires_at: datetime | None,
) -> None:
    """Make a key, print it once, and add it to the file."""
    if expires_in is not None and expires_at is not None:
        raise click.UsageError("--expires-in and --expires-at exclude each other.")
    path, secret = _path(file), fresh_key()
    if expires_in is not None:
        expires_at = _now() + expires_in
    if expires_at is not None and expires_at <= _now():
        raise click.UsageError(f"{_shown(expires_at)} has passed: the key would never be good.")
    key = Key(
        name=name,
        digest=digest_of(secret),
        scopes=frozenset(Scope(word) for word in scopes),
        max_priority=Priority[max_priority],
        requests_per_minute=requests_per_minute,
        max_queued_items=max_queued_items,
        own_only=own_only,
        expires_at=expires_at,
    )
    editing.add(path, key, lambda: say(secret))
    # People are told beside the output: that is for the script that takes the key from it.
    say(
        f"Added to {path}. This is the only time the key is shown; send it as "
        "`Authorization: Bearer <key>`.",
        err=True,
    )


@keys.command(
    "list",
    cls=Command,
    examples=("ingest-service keys list", "ingest-service keys --file keys.toml list"),
)
@click.pass_obj
@told
def list_keys(file: str | None) -> None:
    """Show what each key may do."""
    now = _now()
    table(
        ("name", "scopes", "limits", "expires"),
        [
            (key.name, " ".join(sorted(key.scopes)), _limits(key), _end(key, now))
            for key in read_keys(_path(file), file)
        ],
    )


@keys.command(
    cls=Command,
    examples=(
        "ingest-service keys revoke nightly",
        "ingest-service keys --file keys.toml revoke nightly",
    ),
)
@click.argument("name")
@click.pass_obj
@told
def revoke(file: str | None, *, name: str) -> None:
    """Take a key out of the file."""
    editing.revoke(_path(file), name)
    say(f"{name}: revoked; a running service takes that up within two seconds.")


@keys.command(
    cls=Command,
    examples=(
        "ingest-service keys rotate nightly --overlap 24h",
        "ingest-service keys rotate nightly --overlap 0s",
    ),
)
@click.argument("name")
@click.option(
    "--overlap", callback=_duration, required=True, metavar="24h", help="How long; 0s: not at all."
)
@click.pass_obj
@told
def rotate(file: str | None, *, name: str, overlap: timedelta) -> None:
    """Replace a key; the old one is good for a while."""
    now = _now()
    editing.rotate(_path(file), name, now + overlap, now, say)
    say(
        f"The key before it is good until {_shown(now + overlap)} at most; "
        "the new one does not expire. This is the only time it is shown.",
        err=True,
    )


def _limits(key: Key) -> str:
    limits = [
        key.max_priority is not Priority.HIGH and f"{key.max_priority.name} at most",
        key.requests_per_minute and f"{key.requests_per_minute} requests a minute",
        key.max_queued_items and f"{key.max_queued_items} items waiting",
        key.own_only and "its own only",
    ]
    return ", ".join(text for text in limits if text) or "none"


def _end(key: Key, now: datetime) -> str:
    if key.expires_at is None:
        return "never"
    return f"{_shown(key.expires_at)}{' (has expired)' if key.has_expired(now) else ''}"


def _shown(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _path(file: str | None) -> str:
    path = file or Settings.from_env(os.environ, journal=SERVER_JOURNAL).api_keys_file
    if path is None:
        raise SettingsError(f"Name the keys file, with --file or in {SETTING}.")
    return path


def _now() -> datetime:
    # Whole seconds: what is written to the file is what is meant.
    return SystemClock().now().replace(microsecond=0)
