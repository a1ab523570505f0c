"""The commands about API keys: `python -m ingest_service keys ...`."""

import argparse
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

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
from ingest_service.settings import Duration


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `keys` and what is below it."""
    keys = commands.add_parser("keys", help="make, list, replace and revoke API keys")
    keys.add_argument(
        "--file", metavar="PATH", help=f"the keys file (default: what {SETTING} names)"
    )
    below = keys.add_subparsers(required=True, metavar="command")
    _add_new(below)
    listing = below.add_parser("list", help="show what each key may do")
    listing.set_defaults(run=_list)
    revoke = below.add_parser("revoke", help="take a key out of the file")
    revoke.add_argument("name")
    revoke.set_defaults(run=_revoke)
    rotate = below.add_parser("rotate", help="replace a key; the old one is good for a while")
    rotate.add_argument("name")
    rotate.add_argument(
        "--overlap",
        type=_duration,
        required=True,
        metavar="24h",
        help="how long; 0s: not at all",
    )
    rotate.set_defaults(run=_rotate)


def _add_new(below: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    new = below.add_parser("new", help="make a key, print it once, and add it to the file")
    new.add_argument("name", type=_name)
    new.add_argument(
        "--scope",
        action="append",
        required=True,
        choices=GRANTED,
        help="what it may do; can be given several times",
    )
    new.add_argument("--max-priority", choices=list(Priority.__members__), default="HIGH")
    new.add_argument("--requests-per-minute", type=_whole(MOST_A_MINUTE), metavar="N")
    new.add_argument("--max-queued-items", type=_whole(MOST_ITEMS), metavar="N")
    new.add_argument("--own-only", action="store_true", help="only what it submits exists for it")
    end = new.add_mutually_exclusive_group()
    end.add_argument("--expires-in", type=_duration, metavar="90d")
    end.add_argument("--expires-at", type=_time, metavar="2027-01-01T00:00:00Z")
    new.set_defaults(run=_new)


def _new(options: argparse.Namespace) -> str:
    path = _path(options)
    secret = fresh_key()
    expires_at = options.expires_at
    if options.expires_in is not None:
        expires_at = _now() + options.expires_in
    key = Key(
        name=options.name,
        digest=digest_of(secret),
        scopes=frozenset(Scope(word) for word in options.scope),
        max_priority=Priority[options.max_priority],
        requests_per_minute=options.requests_per_minute,
        max_queued_items=options.max_queued_items,
        own_only=options.own_only,
        expires_at=expires_at,
    )
    editing.add(path, key)
    _remark(
        f"Added to {path}. This is the only time the key is shown; send it as "
        "`Authorization: Bearer <key>`."
    )
    return secret


def _list(options: argparse.Namespace) -> str:
    now = _now()
    rows = [("name", "scopes", "limits", "expires")]
    rows += [
        (key.name, " ".join(sorted(key.scopes)), _limits(key), _end(key, now))
        for key in read_keys(_path(options))
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _revoke(options: argparse.Namespace) -> str:
    editing.revoke(_path(options), options.name)
    return f"{options.name}: revoked; a running service takes that up within two seconds."


def _rotate(options: argparse.Namespace) -> str:
    now = _now()
    secret = editing.rotate(_path(options), options.name, now + options.overlap, now)
    _remark(
        f"The key before it is good until {_shown(now + options.overlap)} at most; "
        "the new one does not expire. This is the only time it is shown."
    )
    return secret


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


def _path(options: argparse.Namespace) -> str:
    path: str | None = options.file or options.keys_file
    if path is None:
        raise SettingsError(f"Name the keys file, with --file or in {SETTING}.")
    return path


def _now() -> datetime:
    # Whole seconds: what is written to the file is what is meant.
    return SystemClock().now().replace(microsecond=0)


def _remark(text: str) -> None:
    """Tell people, not the script that takes the key from the output."""
    sys.stderr.write(f"{text}\n")


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("use letters, digits, `.`, `_` and `-`")
    return text


def _whole(most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,15}", text) or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {most}")
        return int(text)

    return read


def _duration(text: str) -> timedelta:
    try:
        return timedelta(seconds=Duration().check(Duration().read(text)))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {Duration.allowed}") from None


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text).replace(microsecond=0)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise argparse.ArgumentTypeError("must be a time with a time zone")
    return at
