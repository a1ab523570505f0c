"""Being signed in: a cookie that says which key somebody has shown, and until when that holds."""

import hashlib
import hmac
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ingest_service.keys.key import NAME, Key
from ingest_service.keys.keyring import Keyring

COOKIE = "ingest_session"
LIFETIME = timedelta(hours=8)
#: How often a minute somebody may try keys.
TRIES = 10
#: How many attempts are remembered; with more, the oldest are forgotten.
_REMEMBERED = 10_000

_COOKIE = re.compile(rf"({NAME.pattern})\.([0-9]{{1,12}})\.([0-9a-f]{{64}})")


@dataclass(frozen=True, slots=True)
class Sessions:
    """Gives out cookies and reads them; keeps none, so they outlive a restart."""

    keyring: Keyring
    #: Tells the 32 bytes that only this service knows.
    secret: Callable[[], bytes]
    tries: deque[tuple[datetime, str]] = field(
        default_factory=lambda: deque(maxlen=_REMEMBERED), init=False
    )

    def may_try(self, address: str, now: datetime) -> bool:
        """Count an attempt from `address`, unless it is one too many; return whether it is not."""
        while self.tries and self.tries[0][0] <= now - timedelta(minutes=1):
            self.tries.popleft()
        if sum(address == other for _, other in tuple(self.tries)) >= TRIES:
            return False
        self.tries.append((now, address))
        return True

    def begin(self, text: str, now: datetime) -> str | None:
        """Return the cookie for whoever has the key `text`, None if it is none in force."""
        key = self.keyring.admit(f"Bearer {text}")
        if key is None:
            return None
        until = int((now + LIFETIME).timestamp())
        return f"{key.name}.{until}.{self._seal(key, until)}"

    def key_of(self, cookie: str, now: datetime) -> Key | None:
        """Return the key that `cookie` stands for, None if there is none or not any more.

        It ends with the key: one that was revoked, replaced or has expired opens nothing.
        """
        match = _COOKIE.fullmatch(cookie)
        if match is None or int(match[2]) <= now.timestamp():
            return None
        for key in self.keyring.named(match[1]):
            if hmac.compare_digest(self._seal(key, int(match[2])), match[3]):
                return key
        return None

    def _seal(self, key: Key, until: int) -> str:
        # With the digest, a key of the same name that takes its place is another one.
        said = f"{key.name}.{until}.".encode() + key.digest
        return hmac.new(self.secret(), said, hashlib.sha256).hexdigest()
