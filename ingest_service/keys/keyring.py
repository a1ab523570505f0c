"""The keys in force: who comes with which."""

import hmac
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ingest_service.clock import Clock
from ingest_service.keys.file_format import read_keys
from ingest_service.keys.key import KEY, Key, digest_of
from ingest_service.keys.rates import Rates
from ingest_service.watched_file import WatchedFile

#: Few spaces: looking behind many, again and again, would cost more than an accepted request.
_BEARER = re.compile(rf"(?i:bearer) {{1,9}}({KEY.pattern})")

#: Name of the thread that tells of a change.
RECORDER = "keys-recorder"

#: Keys by the first byte of their digest, which says nothing about a random key.
_Buckets = tuple[tuple[Key, ...], ...]


@dataclass(frozen=True, slots=True)
class KeysHealth:
    """How the keys are, without their names: everybody may ask."""

    in_force: int
    #: What is wrong with the file as it is now; the keys before are still in force then.
    trouble: str | None


class Keyring:
    """The keys in a file, as it was a second ago at most; it holds no key, only digests."""

    def __init__(
        self, path: str, clock: Clock, on_change: Callable[[list[Any], list[Any]], None]
    ) -> None:
        """Read the file; raise `SettingsError`.

        `on_change` is told, in JSON and on a thread of its own, which keys there were and are.
        """
        self._clock = clock
        self._on_change = on_change
        self._file = WatchedFile(clock, path, partial(_read, path), self._changed)
        self.rates = Rates(clock)

    def admit(self, authorization: str) -> Key | None:
        """Return the key that the `Authorization` header has, None if it has none in force."""
        match = _BEARER.fullmatch(authorization)
        if match is None:
            return None
        digest = digest_of(match[1])
        admitted = None
        for key in self._file.current()[digest[0]]:
            # All of them, whichever it is.
            if hmac.compare_digest(key.digest, digest):
                admitted = key
        if admitted is None or admitted.has_expired(self._clock.now()):
            return None
        return admitted

    def named(self, name: str) -> list[Key]:
        """Return the keys in force that are called `name`: one, or two while one is replaced."""
        now = self._clock.now()
        keys = (key for bucket in self._file.current() for key in bucket)
        return [key for key in keys if key.name == name and not key.has_expired(now)]

    def _changed(self, before: _Buckets, after: _Buckets) -> None:
        if before == after:
            # The file was touched, or says the same in other words.
            return
        # Whoever noticed it has a request to answer, and a record waits for the disk.
        told = _described(before), _described(after)
        threading.Thread(target=self._on_change, args=told, name=RECORDER, daemon=True).start()

    def health(self) -> KeysHealth:
        """Return how many keys are in force, and whether the file can be used."""
        now = self._clock.now()
        keys = [key for bucket in self._file.current() for key in bucket]
        return KeysHealth(
            in_force=sum(not key.has_expired(now) for key in keys),
            trouble=None
            if self._file.unusable is None
            else "The keys file was changed and cannot be used; the log says why.",
        )


def _described(buckets: _Buckets) -> list[Any]:
    return sorted(
        ({"name": key.name, "scopes": sorted(key.scopes)} for bucket in buckets for key in bucket),
        key=lambda described: str(described["name"]),
    )


def _read(path: str) -> _Buckets:
    buckets: list[list[Key]] = [[] for _ in range(256)]
    for key in read_keys(path):
        buckets[key.digest[0]].append(key)
    return tuple(tuple(bucket) for bucket in buckets)
