"""Changing a keys file as an operator would by hand: comments and all else stay."""

import fcntl
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ingest_service.domain.model import Priority
from ingest_service.errors import SettingsError
from ingest_service.keys.file_format import KeysFileError, parse_keys, spans_of
from ingest_service.keys.key import Key, digest_of, fresh_key
from ingest_service.watched_file import read_private


def add(path: str, key: Key, show: Callable[[], object] = lambda: None) -> None:
    """Append `key` to the file at `path`, which is made if it is not there.

    `show` is called when nothing speaks against it: a key that nobody sees is not added.
    """

    def more(keys: tuple[Key, ...]) -> tuple[Key, ...]:
        if any(other.name == key.name for other in keys):
            raise SettingsError(f"{path}: there is a key {key.name!r}; `keys rotate` replaces it.")
        return (*keys, key)

    _change(path, lambda text: _append(text, _table(key)), more, show)


def revoke(path: str, name: str) -> None:
    """Take the keys called `name` out of the file."""

    def remaining(keys: tuple[Key, ...]) -> tuple[Key, ...]:
        _check_known(keys, name, path)
        return tuple(key for key in keys if key.name != name)

    def edit(text: str) -> str:
        lines = text.split("\n")
        for key, (start, end) in reversed(list(_places(text))):
            if key.name == name:
                del lines[start:end]
        return "\n".join(lines)

    _change(path, edit, remaining)


def rotate(
    path: str,
    name: str,
    until: datetime,
    now: datetime,
    show: Callable[[str], object] = lambda _: None,
) -> str:
    """Give `name` another key, which is returned; the one before it is good `until` then.

    Those that have expired are taken out. `show` gets the key when nothing speaks against it.
    """
    secret = fresh_key()

    def replaced(keys: tuple[Key, ...]) -> tuple[Key, ...]:
        _check_known(keys, name, path)
        kept = [key for key in keys if key.name != name or not key.has_expired(now)]
        return (
            *(_until(key, until) if key.name == name else key for key in kept),
            _successor(keys, name, secret),
        )

    def edit(text: str) -> str:
        lines = text.split("\n")
        for key, (start, end) in reversed(list(_places(text))):
            if key.name != name:
                continue
            if key.has_expired(now):
                del lines[start:end]
            elif key.expires_at is None or key.expires_at > until:
                lines[start:end] = _expiring(lines[start:end], until)
        return _append("\n".join(lines), _table(_successor(parse_keys(text), name, secret)))

    _change(path, edit, replaced, lambda: show(secret))
    return secret


def _successor(keys: tuple[Key, ...], name: str, secret: str) -> Key:
    """Return the newest key called `name` with another secret, which does not expire."""
    newest = [key for key in keys if key.name == name][-1]
    return replace(newest, digest=digest_of(secret), expires_at=None)


def _until(key: Key, until: datetime) -> Key:
    return replace(key, expires_at=min(key.expires_at or until, until))


def _check_known(keys: tuple[Key, ...], name: str, path: str) -> None:
    if all(key.name != name for key in keys):
        names = ", ".join(dict.fromkeys(key.name for key in keys)) or "none"
        raise SettingsError(f"{path}: there is no key {name!r}; there are: {names}.")


def _change(
    path: str,
    edit: Callable[[str], str],
    expected: Callable[[tuple[Key, ...]], tuple[Key, ...]],
    announce: Callable[[], object] = lambda: None,
) -> None:
    """Write what `edit` makes of the file, if that means `expected`; raise `SettingsError`.

    What `announce` raises keeps the file as it is.
    """
    # The name may be a link: what it points to is replaced.
    real = os.path.realpath(path)
    with ExitStack() as meanwhile:
        with _named(path):
            meanwhile.enter_context(_alone(real))
            text = read_private(path, real).decode() if os.path.exists(real) else ""
            try:
                wanted = expected(parse_keys(text))
                changed = edit(text)
            except KeysFileError as error:
                raise SettingsError(f"{path}: {error}") from None
            _check_result(path, changed, wanted)
        announce()
        with _named(path):
            _write(real, changed)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Tell which file cannot be changed, and why."""
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SettingsError(f"{path} cannot be changed: {reason}.") from error


def _check_result(path: str, changed: str, wanted: tuple[Key, ...]) -> None:
    try:
        right = parse_keys(changed) == wanted
    except KeysFileError as error:
        raise SettingsError(f"{path}: that cannot be done: {error}") from None
    if not right:
        raise SettingsError(f"{path} is written in an unusual way; change it by hand.")


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """Keep others who change the file out: not by the file, which is replaced."""
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: str, text: str) -> None:
    """Replace the file as a whole; it keeps its owner, who must be able to read it."""
    # Made with mode 0600.
    descriptor, temporary = tempfile.mkstemp(prefix=".keys-", dir=os.path.dirname(path))
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            with suppress(FileNotFoundError):
                before = os.stat(path)
                os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, before.st_mode & 0o700)
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _places(text: str) -> Iterator[tuple[Key, tuple[int, int]]]:
    """Yield each key with its first line and the one after its last; comments below stay out."""
    lines = text.split("\n")
    for key, (start, end) in zip(parse_keys(text), spans_of(lines), strict=True):
        last = max(at for at in range(start, end) if lines[at].strip()[:1] not in ("", "#"))
        yield key, (start, last + 1)


def _expiring(lines: list[str], until: datetime) -> list[str]:
    """Return the lines of a table that ends `until` then."""
    line = f"expires_at = {_written(until)}"
    others = [each for each in lines if not re.match(r"""\s*["']?expires_at["']?\s*=""", each)]
    return [*others, line]


def _append(text: str, table: str) -> str:
    text = text.rstrip("\n")
    return f"{text}\n\n{table}" if text else table


def _table(key: Key) -> str:
    lines = [
        "[[keys]]",
        f'name = "{key.name}"',
        f'sha256 = "{key.digest.hex()}"',
        "scopes = [" + ", ".join(f'"{scope}"' for scope in sorted(key.scopes)) + "]",
    ]
    if key.max_priority is not Priority.HIGH:
        lines.append(f'max_priority = "{key.max_priority.name}"')
    if key.requests_per_minute is not None:
        lines.append(f"requests_per_minute = {key.requests_per_minute}")
    if key.max_queued_items is not None:
        lines.append(f"max_queued_items = {key.max_queued_items}")
    if key.own_only:
        lines.append("own_only = true")
    if key.expires_at is not None:
        lines.append(f"expires_at = {_written(key.expires_at)}")
    return "\n".join(lines) + "\n"


def _written(at: datetime) -> str:
    return at.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
