"""Requests and answers: what is bounded, what is tried again, what is refused."""

import contextlib
import math
import random
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit

import orjson
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Timeout

from ingest_service.client.connection import Connection, pool_of
from ingest_service.client.errors import (
    BadAnswer,
    IngestError,
    Refused,
    Unreachable,
    is_problem,
    refused,
)
from ingest_service.client.fields import Fields
from ingest_service.clock import Clock
from ingest_service.tracebacks import let_go
from ingest_service.version import VERSION

T = TypeVar("T")
#: Largest answer that is kept in memory, in bytes.
MAX_ANSWER = 64 * 2**20
#: Largest text of an error that is read.
_MAX_PROBLEM = 2**20
_PIECE = 2**16
#: Seconds that an answer may be given at most; no socket waits for all numbers.
_LONGEST_TIMEOUT = 86_400.0
#: Seconds that an attempt has at least, however little is left.
_SHORTEST = 0.5
#: The waits between attempts double from the first of these to the second, in seconds.
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0
#: What a proxy answers while the service behind it is away, besides what the service says.
_COME_AGAIN = frozenset((429, 502, 503, 504))
#: What a proxy, or the web server, may answer by itself and in words of its own.
_BY_PROXIES = _COME_AGAIN | {400, 401, 403, 407, 408, 413, 414, 431}
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
#: Told before each further attempt: why, and in how many seconds.
OnRetry = Callable[[str, float], None]


class Request(NamedTuple):
    """One request; it is sent again only if that is harmless."""

    method: str
    #: Below the service's address.
    path: str
    query: Mapping[str, Any]
    body: bytes | None = None
    headers: Mapping[str, str] | None = None
    #: Whether sending it twice is the same as sending it once.
    repeatable: bool = True
    #: Seconds that the answer may take beyond the usual time.
    held_back: float = 0.0
    #: When nobody wants the answer any more, whatever patience is left; on the client's clock.
    until: float = math.inf

    @property
    def target(self) -> str:
        """Path and query."""
        query = {name: value for name, value in self.query.items() if value is not None}
        return f"{self.path}?{urlencode(query)}" if query else self.path


class Answer(NamedTuple):
    """A whole answer, below 300 or a 304."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def fields(self) -> Fields:
        """Return the JSON object it consists of; raise `BadAnswer`."""
        return Fields(_json(self.body))


class Transport:
    """Sends requests to one service."""

    def __init__(
        self,
        url: str,
        key: str | None,
        clock: Clock,
        *,
        timeout: float,
        patience: float,
        on_retry: OnRetry | None = None,
    ) -> None:
        if not 0 < timeout <= _LONGEST_TIMEOUT:
            raise ValueError(f"The time-out is above 0 and at most {_LONGEST_TIMEOUT:g} seconds.")
        if math.isnan(patience):
            raise ValueError("The patience is a number of seconds.")
        self.url = checked_url(url)
        self._prefix = urlsplit(self.url).path
        self.clock = clock
        self.timeout = timeout
        self.patience = patience
        self._on_retry = on_retry
        self._headers = {"User-Agent": f"ingest-service-client/{VERSION}"}
        if key is not None:
            if not _VISIBLE_ASCII.fullmatch(key):
                raise ValueError("A key consists of visible ASCII characters.")
            self._headers["Authorization"] = f"Bearer {key}"
        self._pool = pool_of(self.url)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def send(self, request: Request) -> Answer:
        """Return the answer to `request`, whole and below 300, or a 304; raise `IngestError`."""
        return self._persist(request, self._send)

    @contextmanager
    def stream(self, request: Request) -> Iterator[Iterator[bytes]]:
        """Give the body of an answer in pieces as they come; nothing of it is kept."""
        response = self._persist(request, self._open)
        try:
            yield self._pieces(response, None)
        finally:
            response.close()
            response.release_conn()

    def _persist(self, request: Request, attempt: Callable[[Request], T]) -> T:
        """Return what `attempt` returns, tried again while that is safe and may help."""
        began, failures, uncertain = self.clock.monotonic(), 0, False
        while True:
            try:
                return attempt(request)
            except IngestError as error:
                # What became of one attempt, the next one that is refused does not tell.
                uncertain = error.uncertain = uncertain or error.uncertain
                wait = _wait_after(error, request, failures)
                now = self.clock.monotonic()
                if wait is None or wait > began + self.patience - now:
                    raise
                if now + wait >= request.until:
                    self.clock.sleep(max(0.0, request.until - now))
                    raise
                failures += 1
                if self._on_retry is not None:
                    self._on_retry(str(error), wait)
            self.clock.sleep(wait)

    def _send(self, request: Request) -> Answer:
        response = self._open(request)
        try:
            body = b"".join(self._pieces(response, MAX_ANSWER))
        except IngestError:
            # What was not read makes the connection useless.
            response.close()
            raise
        finally:
            response.release_conn()
        return Answer(response.status, response.headers, body)

    def _open(self, request: Request) -> BaseHTTPResponse:
        """Return an answer whose body is still to be read; raise otherwise."""
        left = max(_SHORTEST, request.until - self.clock.monotonic())
        headers = {**self._headers, **(request.headers or {})}
        # What is no text is not sent, which is the fault of whoever has asked for it.
        target = f"{self._prefix}{request.target}"
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        try:
            response = self._pool.urlopen(
                request.method,
                target,
                body=request.body,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                # Of all of it: `Connection` sees to that.
                timeout=Timeout(min(self.timeout + request.held_back, left)),
            )
        except (HTTPError, OSError, UnicodeError) as error:
            raise self._unreachable(error) from error
        if not _has_an_end(response):
            # As of a head that was cut off: nobody could tell what is missing.
            response.close()
            raise Unreachable(f"{self.url}: the answer was cut off.")
        if 200 <= response.status < 300 or response.status == 304:
            return response
        with contextlib.closing(response):
            raise self._not_good(response)

    def _not_good(self, response: BaseHTTPResponse) -> IngestError:
        if 300 <= response.status < 400:
            where = response.headers.get("Location", "nowhere")[:200]
            return BadAnswer(
                f"{self.url} answers {response.status} and points to {where}; redirects are not "
                "followed. Is the address right?"
            )
        text = b"".join(self._pieces(response, _MAX_PROBLEM))
        try:
            document = orjson.loads(text)
        except ValueError:
            document = None
        is_json = "json" in response.headers.get("Content-Type", "").lower()
        if response.status not in _BY_PROXIES and not (is_json and is_problem(document)):
            return BadAnswer(
                f"{self.url} answers {response.status} without a reason as this service would "
                "give it; what answers is not this service. Is the address right?"
            )
        return refused(response.status, document, self._retry_after(response.headers))

    def _pieces(self, response: BaseHTTPResponse, limit: int | None) -> Iterator[bytes]:
        """Yield the body; without a `limit` in bytes the time-out is of each piece."""
        length, connection = 0, response.connection
        try:
            while True:
                if limit is None and isinstance(connection, Connection):
                    connection.allow(self.timeout)
                piece = response.read1(_PIECE)
                if not piece:
                    return
                length += len(piece)
                if limit is not None and length > limit:
                    raise BadAnswer(f"The answer of {self.url} is larger than {limit} bytes.")
                yield piece
        except (HTTPError, OSError) as error:
            raise self._unreachable(error) from error

    def _retry_after(self, headers: Mapping[str, str]) -> float | None:
        """Return the seconds that `Retry-After` asks for, as a number or as a date."""
        text = headers.get("Retry-After", "")
        if re.fullmatch(r"[0-9]{1,9}", text):
            return float(text)
        try:
            at = parsedate_to_datetime(text)
            return max(0.0, (at - self.clock.now()).total_seconds())
        except (TypeError, ValueError, OverflowError):
            return None

    def _unreachable(self, error: Exception) -> Unreachable:
        raised = Unreachable(f"{self.url}: {_in_words(error)}.")
        # Then nothing was sent, so everything may be sent again.
        sent = not isinstance(error, NewConnectionError | ConnectTimeoutError)
        raised.connected = raised.uncertain = sent
        # Its frames hold it (urllib3's do), and with it the body.
        let_go(error)
        return raised


def _in_words(error: Exception) -> str:
    """Return why there is no answer, for people."""
    # Some of urllib3's errors have theirs from another one, and some have it as an argument.
    inner = next((each for each in error.args if isinstance(each, Exception)), error)
    reason = error.__cause__ or inner
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {reason.verify_message.rstrip('.')}"
    if isinstance(reason, ssl.SSLError):
        why = str(reason.reason or reason)
        return f"https does not work with it ({why.replace('_', ' ').lower()})"
    if isinstance(reason, RemoteDisconnected):
        return "it has hung up without an answer"
    if isinstance(reason, IncompleteRead):
        return "the answer was cut off"
    if isinstance(reason, HTTPException):
        return f"what it answers is not HTTP ({str(reason).strip()[:100]})"
    return getattr(reason, "strerror", None) or str(reason) or repr(reason)


def _has_an_end(response: BaseHTTPResponse) -> bool:
    """Tell whether the head of an answer says where its body ends."""
    headers = response.headers
    return (
        "Content-Length" in headers
        or headers.get("Transfer-Encoding", "").lower() == "chunked"
        or response.status in (204, 304)
    )


def _wait_after(error: IngestError, request: Request, failures: int) -> float | None:
    """Return how long to wait before the next attempt, None if there must be none."""
    asked = 0.0
    if isinstance(error, Refused):
        if error.problem.status not in _COME_AGAIN or not request.repeatable or _is_final(error):
            return None
        asked = error.retry_after or 0.0
    elif not isinstance(error, Unreachable) or (error.connected and not request.repeatable):
        return None
    longest: float = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(failures, 10))
    # Whoever may come again at once comes in vain for the tenth time all the same.
    return max(asked, longest * (0.5 + random.random() / 2))  # noqa: S311 # nosec B311


def _is_final(error: Refused) -> bool:
    """Tell whether it is a 429 for good: wherever that may help, the service says when to come."""
    problem = error.problem
    ours = problem.type.startswith("/problems/")
    return problem.status == 429 and ours and error.retry_after is None


def checked_url(url: str) -> str:
    """Return the address without a slash at its end; raise ValueError if it is none."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is no address like http://127.0.0.1:8000.")
    return url.rstrip("/")


def _json(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError as error:
        start = text[:60].decode("utf-8", "replace")
        raise BadAnswer(f"The answer is not JSON; it begins with {start!r}.") from error
