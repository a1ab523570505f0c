"""An HTTP API: one request an item, or one a batch.

Every answer is treated as hostile: bounded in size while it is read, bounded in
time as a whole, never followed elsewhere.
"""

import email.utils
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProxyError,
    SSLError,
)

from ingest_service.clock import Clock
from ingest_service.domain.items import Kind
from ingest_service.domain.model import Batch, Outcome
from ingest_service.upstreams.protocol import idempotency_keys
from ingest_service.version import VERSION

#: Statuses after which another attempt may succeed; so may any from 500 on.
RETRIED = frozenset({408, 425, 429})
#: Statuses whose `Retry-After` holds the pace.
HOLDING = frozenset({429, 503})

#: What happens before anything was sent.
_UNREACHABLE = (NewConnectionError, ConnectTimeoutError, SSLError, ProxyError)
_CHUNK = 64 * 1024
#: Longest list of offsets in an idempotency key; a header has to fit into other people's limits.
_LONGEST_PLACES = 100
_CHARSET = re.compile(r"charset\s*=\s*\"?([\w.:-]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may take."""

    #: Seconds for the whole request.
    timeout: float
    #: Bytes of an answer, an item.
    max_response: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go."""

    #: Connections to one host.
    pool: urllib3.HTTPConnectionPool
    #: What the first line of a request names.
    target: str


class Unreadable(Exception):
    """The answer came, and is of no use."""


class Client:
    """Sends one request and classifies what comes back."""

    def __init__(
        self, clock: Clock, pools: urllib3.PoolManager, limits: Limits, headers: Mapping[str, str]
    ) -> None:
        self._clock = clock
        self._pools = pools
        self._limits = limits
        # Half of it to connect: to be known as unreachable before the batch is given up.
        self._timeout = urllib3.Timeout(connect=limits.timeout / 2, total=limits.timeout)
        merged = urllib3.HTTPHeaderDict(
            {
                "User-Agent": f"ingest-service/{VERSION}",
                "Accept": "application/json, */*;q=0.5",
                # What is compressed can grow beyond every limit while it is read.
                "Accept-Encoding": "identity",
            }
        )
        for name, value in headers.items():
            merged[name] = value
        self._headers = dict(merged.items())

    def open(self, url: str) -> "Endpoint":
        """Return where `url` leads to."""
        scheme, host, *_ = urlsplit(url)
        origin = f"{scheme}://{host}"
        target = url.removeprefix(origin).partition("#")[0]
        if not target.startswith("/"):
            target = "/" + target
        # Looked up once: the manager would take the address apart for every request.
        pool = self._pools.connection_from_url(origin)
        if self._pools.proxy and scheme == "http":
            target = origin + target
        return Endpoint(pool, target)

    def send(
        self,
        method: str,
        door: "Endpoint",
        key: str,
        attempt: int,
        payload: Any = None,
        items: int = 1,
    ) -> Outcome:
        """Return the outcome of one request about `items` items, whatever comes back."""
        headers = {**self._headers, "Idempotency-Key": key, "X-Ingest-Attempt": str(attempt)}
        body = None
        if payload is not None:
            body = orjson.dumps(payload)
            headers["Content-Type"] = "application/json"
        try:
            response = self._begin(method, door, headers, body)
        except (HTTPError, OSError) as error:
            return _interrupted(error, unreachable=isinstance(error, _UNREACHABLE))
        try:
            outcome = self._classify(response, self._limits.max_response * items)
        except BaseException:
            # Half an answer is left in it, so the connection is of no use to another request.
            response.close()
            raise
        response.release_conn()
        return outcome

    def _begin(
        self, method: str, door: "Endpoint", headers: dict[str, str], body: bytes | None
    ) -> urllib3.BaseHTTPResponse:
        """Return an answer whose body has not been read."""
        return door.pool.urlopen(
            method,
            door.target,
            body,
            headers,
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=self._timeout,
            preload_content=False,
            decode_content=False,
        )

    def _classify(self, response: urllib3.BaseHTTPResponse, limit: int) -> Outcome:
        status = response.status
        if not 200 <= status < 300:
            _drain(response)
            return self._refused(status, response.headers)
        try:
            data = _parse(response.headers, _read(response, limit))
        except Unreadable as error:
            response.close()
            return Outcome(succeeded=False, error=str(error), status_code=status)
        except (HTTPError, OSError) as error:
            response.close()
            return _interrupted(error)
        return Outcome(succeeded=True, processed_data=data, status_code=status)

    def _refused(self, status: int, headers: Mapping[str, str]) -> Outcome:
        if 300 <= status < 400:
            reason = f"The upstream answered {status}; redirects are not followed."
            return Outcome(succeeded=False, error=reason, status_code=status)
        hold = None
        if status in HOLDING:
            hold = retry_after(headers.get("Retry-After", ""), self._clock.now())
        return Outcome(
            succeeded=False,
            error=f"The upstream answered {status}.",
            status_code=status,
            transient=_may_pass(status),
            retry_after=hold,
        )


class ItemConnector:
    """One request an item: GET for ids, POST for mappings."""

    def __init__(self, client: Client, template: str) -> None:
        self._client = client
        self._door = client.open(template)

    def __call__(self, batch: Batch) -> Sequence[Outcome]:
        """Send the one item of `batch`."""
        (item,), (key,) = batch.items, idempotency_keys(batch)
        if batch.kind is Kind.IDS:
            outcome = self._client.send("GET", self._at(item), key, batch.attempt)
        else:
            outcome = self._client.send("POST", self._at(item["id"]), key, batch.attempt, item)
        return [outcome]

    def _at(self, name: int | str) -> Endpoint:
        quoted = quote(str(name), safe="")
        if not quoted.strip("."):
            # Not to be taken for a path segment that leads upwards.
            quoted = quoted.replace(".", "%2E")
        return Endpoint(self._door.pool, self._door.target.replace("{id}", quoted))


class BatchConnector:
    """One POST a batch; the answer lists an outcome an item, or says the same for all."""

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self._door = client.open(url)

    def __call__(self, batch: Batch) -> Sequence[Outcome]:
        """Send all items of `batch`."""
        key = _key(batch)
        payload = {"batch_id": batch.batch_id, batch.kind.value: list(batch.items)}
        size = len(batch.items)
        whole = self._client.send("POST", self._door, key, batch.attempt, payload, size)
        if not whole.succeeded:
            return [whole] * size
        listed = whole.processed_data
        if isinstance(listed, dict) and "results" in listed:
            listed = listed["results"]
        if not isinstance(listed, list):
            return [whole] * size
        if len(listed) != size:
            reason = f"The upstream listed {len(listed)} outcomes for {size} items."
            return [replace(whole, succeeded=False, processed_data=None, error=reason)] * size
        return [_listed(each, whole.status_code) for each in listed]


def _key(batch: Batch) -> str:
    """Return the same for every attempt at the same items."""
    if isinstance(batch.offsets, range):
        return batch.batch_id
    # What is left of a batch is another request than all of it.
    offsets = "-".join(map(str, batch.offsets))
    if len(offsets) > _LONGEST_PLACES:
        offsets = hashlib.sha256(offsets.encode()).hexdigest()
    return f"{batch.batch_id}/{offsets}"


def _listed(entry: Any, status_code: int | None) -> Outcome:
    """Return the outcome that one entry of a batch's answer describes.

    An object with `"status": "failed"`, or with an `"error"`, has failed; `"status_code"`
    in it is classified as if it were the status of an answer. Anything else is
    the item's processed_data.
    """
    if not isinstance(entry, dict):
        return Outcome(succeeded=True, processed_data=entry, status_code=status_code)
    if entry.get("status") not in ("failed", "error") and entry.get("error") is None:
        data = entry.get("processed_data", entry)
        return Outcome(succeeded=True, processed_data=data, status_code=status_code)
    own = entry.get("status_code")
    code = own if type(own) is int and 100 <= own < 600 else status_code
    return Outcome(
        succeeded=False,
        error=str(entry.get("error") or "The upstream failed this item."),
        status_code=code,
        transient=code is not None and _may_pass(code),
    )


def _may_pass(status: int) -> bool:
    return status in RETRIED or status >= 500


def retry_after(value: str, now: datetime) -> float | None:
    """Return the seconds that a `Retry-After` means (RFC 9110, 10.2.3), None for nonsense."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        at = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())


def _read(response: urllib3.BaseHTTPResponse, limit: int) -> bytes:
    content = bytearray()
    while chunk := response.read1(_CHUNK):
        content += chunk
        if len(content) > limit:
            raise Unreadable(f"The answer is larger than {limit} bytes.")
    return bytes(content)


def _drain(response: urllib3.BaseHTTPResponse) -> None:
    """Read what nobody needs, if it is short, to keep the connection; otherwise give it up."""
    try:
        _read(response, _CHUNK)
    except (HTTPError, OSError, Unreadable):
        response.close()


def _parse(headers: Mapping[str, str], body: bytes) -> Any:
    """Return what the body says: JSON if it claims to be, or does not say; otherwise text."""
    encoding = headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise Unreadable(f"The answer is encoded ({encoding[:40]}), which was not asked for.")
    media_type = headers.get("Content-Type", "")
    if not body:
        return None
    if not media_type or "json" in media_type.lower():
        try:
            return orjson.loads(body)
        except ValueError:
            raise Unreadable("The answer is not valid JSON.") from None
    charset = _CHARSET.search(media_type)
    try:
        return body.decode(charset[1] if charset else "utf-8")
    except (LookupError, UnicodeError):
        raise Unreadable("The answer is not text in the charset that it names.") from None


def _interrupted(error: Exception, *, unreachable: bool = False) -> Outcome:
    """Name what went wrong without repeating what the other side sent."""
    inner = next((each for each in error.args if isinstance(each, BaseException)), None)
    kind = type(error).__name__ + (f", {type(inner).__name__}" if inner else "")
    what = "cannot be reached" if unreachable else "did not answer in full"
    return Outcome(
        succeeded=False,
        error=f"The upstream {what}: {kind}.",
        transient=True,
        unreachable=unreachable,
    )
