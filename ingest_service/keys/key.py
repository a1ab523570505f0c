"""An API key: its name and what it may do, never the key itself."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime

from ingest_service.domain.model import Priority
from ingest_service.keys.scope import Scope

#: What a key looks like: a part that names it in logs of others, and one that nobody guesses.
KEY = re.compile(r"ik_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{43}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What the operator has written down about a key."""

    name: str
    #: SHA-256 of the whole key. It is random, so there is nothing to be found by trying.
    digest: bytes
    scopes: frozenset[Scope]
    #: The most urgent class that it may ask for.
    max_priority: Priority = Priority.HIGH
    requests_per_minute: int | None = None
    max_queued_items: int | None = None
    #: Whether only what it has submitted exists for it.
    own_only: bool = False
    expires_at: datetime | None = None

    def may(self, scope: Scope) -> bool:
        """Tell whether it is enough for a route that asks for `scope`; who reads may measure."""
        return scope in self.scopes or (scope is Scope.METRICS and Scope.READ in self.scopes)

    def has_expired(self, now: datetime) -> bool:
        """Tell whether it is good for nothing any more."""
        return self.expires_at is not None and self.expires_at <= now


def digest_of(key: str) -> bytes:
    """Return what is written down of `key`, which is ASCII."""
    return hashlib.sha256(key.encode("ascii")).digest()


def fresh_key() -> str:
    """Return a new key: 256 random bits."""
    name = "".join(secrets.choice(_LETTERS) for _ in range(8))
    return f"ik_{name}_{secrets.token_urlsafe(32)}"
