"""What the answers of an HTTP API mean, however hostile they are."""

import codecs
import contextlib
import email.utils
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NewConnectionError,
    ProxyError,
    SSLError,
)

from ingest_service import json_text
from ingest_service.domain.model import Outcome
from ingest_service.upstreams.answer import Answer, Broken, Encoded, Unreadable
from ingest_service.upstreams.shortage import shortage, unsent

#: Statuses after which another attempt may succeed; so may any from 500 on.
RETRIED = frozenset({408, 425, 429})
#: Statuses whose `Retry-After` holds the pace.
HOLDING = frozenset({429, 503})

#: What happens before anything was sent.
_UNREACHABLE = (
    ConnectTimeoutError,
    LocationParseError,
    NewConnectionError,
    ProxyError,
    SSLError,
)
#: Bytes that are read for the sake of the connection, and in how many seconds.
_SHORT = 64 * 1024
_SOON = 1.0
#: Those that take longer to read than an answer may: the square of its length.
_NO_CHARSETS = frozenset(("punycode", "idna"))
#: A number of seconds, and as some write it.
_SECONDS = re.compile(r"\s*[0-9]{1,400}(\.[0-9]{1,400})?\s*", re.ASCII)
_CHARSET = re.compile(r"charset\s*=\s*\"?([\w.:-]+)", re.IGNORECASE)


def classify(answer: Answer, limit: int, now: datetime) -> Outcome:
    """Return the outcome that an answer of at most `limit` bytes stands for."""
    status = answer.status
    if not 200 <= status < 300:
        _drain(answer)
        return _refused(status, answer.headers, now)
    try:
        data = _parse(answer.headers, answer.read(limit))
    except Unreadable as error:
        return Outcome(succeeded=False, error=str(error), status_code=status)
    return Outcome(succeeded=True, processed_data=data, status_code=status)


def _refused(status: int, headers: Mapping[str, str], now: datetime) -> Outcome:
    if 300 <= status < 400:
        reason = f"The upstream answered {status}; redirects are not followed."
        return Outcome(succeeded=False, error=reason, status_code=status)
    seconds = retry_after(headers.get("retry-after", ""), now) if status in HOLDING else None
    return Outcome(
        succeeded=False,
        error=f"The upstream answered {status}.",
        status_code=status,
        transient=may_pass(status),
        retry_after=seconds,
    )


def may_pass(status: int) -> bool:
    """Return whether another attempt may succeed after this status."""
    return status in RETRIED or status >= 500


def retry_after(value: str, now: datetime) -> float | None:
    """Return the seconds that a `Retry-After` means (RFC 9110, 10.2.3), None for nonsense."""
    # Two fields are as one, with a comma between them.
    parts = value.split(",")
    if all(map(_SECONDS.fullmatch, parts)):
        return max(map(float, parts))
    try:
        at = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())


def _drain(answer: Answer) -> None:
    """Read what nobody needs, if it is short and soon there: otherwise it costs the connection."""
    with contextlib.suppress(HTTPError, OSError, Unreadable):
        answer.hurry(_SOON)
        answer.read(_SHORT)


def _parse(headers: Mapping[str, str], body: bytes) -> Any:
    """Return what the body says: JSON if it claims to be, or does not say; otherwise text."""
    encoding = headers.get("content-encoding", "")
    if encoding.lower() not in ("", "identity"):
        raise Encoded(encoding)
    media_type = headers.get("content-type", "")
    if not body:
        return None
    if not media_type or "json" in media_type.lower():
        try:
            return json_text.loads(body.removeprefix(codecs.BOM_UTF8))
        except ValueError:
            raise Unreadable("The answer is not valid JSON.") from None
    found = _CHARSET.search(media_type)
    try:
        return body.decode(_charset(found[1]) if found else "utf-8")
    except (LookupError, UnicodeError):
        raise Unreadable("The answer is not text in the charset that it names.") from None


def _charset(name: str) -> str:
    charset = codecs.lookup(name).name
    if charset in _NO_CHARSETS:
        raise LookupError(charset)
    return charset


def interrupted(error: Exception) -> Outcome:
    """Return the outcome of a request that `error` ended.

    It names what went wrong without repeating what the other side sent.
    """
    lacking = shortage(error)
    if lacking is not None:
        return unsent(lacking)
    unreachable = isinstance(error, _UNREACHABLE)
    inner = next((cause for cause in error.args if isinstance(cause, BaseException)), None)
    kind = ", ".join(_kind(each) for each in (error, inner) if each is not None)
    what = "cannot be reached" if unreachable else "did not answer in full"
    return Outcome(
        succeeded=False,
        error=f"The upstream {what}: {kind}.",
        transient=True,
        unreachable=unreachable,
    )


def _kind(error: BaseException) -> str:
    return str(error) if isinstance(error, Broken) else type(error).__name__
