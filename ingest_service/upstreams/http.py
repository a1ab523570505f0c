"""An HTTP API: one request an item, or one a batch.

Every answer is treated as hostile: bounded in size while it is read, bounded in
time as a whole, never followed elsewhere.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast
from urllib.parse import quote, urlsplit

import orjson
import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Url, parse_url

from ingest_service.clock import Clock
from ingest_service.domain.items import Kind
from ingest_service.domain.model import Batch, Outcome
from ingest_service.upstreams.answer import Answer
from ingest_service.upstreams.connections import Connections
from ingest_service.upstreams.http_answers import classify, interrupted
from ingest_service.upstreams.http_listing import listed_outcomes
from ingest_service.upstreams.protocol import idempotency_keys

#: What an address may have unquoted behind its host (RFC 3986, 3.3 and 3.4), or has quoted.
_UNQUOTED = "/?:@!$&'()*+,;=~%"
#: Longest list of offsets in an idempotency key; a header has to fit into other people's limits.
_LONGEST_OFFSETS = 100


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may take."""

    #: Seconds for the whole request.
    timeout: float
    #: Bytes of an answer, an item.
    max_response: int


class Endpoint(NamedTuple):
    """Where requests go."""

    connections: Connections
    #: Whether the proxy is told to pass on every byte.
    is_tunnelled: bool
    #: What the `Host` header says.
    host: str
    #: What the first line of a request names.
    target: str


class Client:
    """Sends one request and classifies what comes back."""

    def __init__(
        self,
        clock: Clock,
        pools: urllib3.PoolManager,
        limits: Limits,
        headers: Callable[[], Mapping[str, str]],
    ) -> None:
        self._clock = clock
        self._pools = pools
        self._limits = limits
        # What goes with every request; asked for anew, because it may change.
        self._headers = headers

    def open(self, url: str) -> Endpoint:
        """Return where `url`, an address as `is_url` allows them, leads to."""
        parts = urlsplit(url)
        place = parse_url(f"{parts.scheme}://{parts.netloc}")
        # Looked up once: the manager would take the address apart for every request.
        connections = cast(Connections, self._pools.connection_from_url(place.url))
        proxied, tls = self._pools.proxy is not None, place.scheme == "https"
        host, target = _host(place), _target(url.partition("//")[2].removeprefix(parts.netloc))
        if proxied and not tls:
            target = f"{place.scheme}://{host}{target}"
        return Endpoint(connections, proxied and tls, host, target)

    def send(
        self,
        method: str,
        endpoint: Endpoint,
        key: str,
        attempt: int,
        payload: Any = None,
        items: int = 1,
    ) -> Outcome:
        """Return the outcome of one request about `items` items, whatever comes back."""
        headers = {"Host": endpoint.host, **self._headers()}
        headers |= {"Idempotency-Key": key, "X-Ingest-Attempt": str(attempt)}
        body = b""
        if payload is not None:
            body = orjson.dumps(payload)
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        request = _head(f"{method} {endpoint.target} HTTP/1.1", headers) + body
        limits = self._limits

        def read(answer: Answer) -> Outcome:
            return classify(answer, limits.max_response * items, self._clock.now())

        try:
            return endpoint.connections.exchange(
                request, limits.timeout, read, tunnel=endpoint.is_tunnelled
            )
        except (HTTPError, OSError) as error:
            return interrupted(error)


def _host(place: Url) -> str:
    """Return the name of a server: without the zone of its address, or a port that is usual."""
    host = re.sub(r"%[^]]*", "", place.host or "").removesuffix(".")
    usual = 443 if place.scheme == "https" else 80
    return host if place.port in (None, usual) else f"{host}:{place.port}"


def _target(text: str) -> str:
    """Return what is behind the host of an address as a request names it."""
    text = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", text.partition("#")[0])
    target = "{id}".join(quote(part, safe=_UNQUOTED) for part in text.split("{id}"))
    return target if target.startswith("/") else f"/{target}"


def _head(first: str, headers: Mapping[str, str]) -> bytes:
    """Return the head of a request; whatever is in it was checked to fit on its line."""
    lines = [first, *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"


class ItemConnector:
    """One request an item: GET for ids, POST for mappings."""

    tells_when_sent = True

    def __init__(self, client: Client, template: str) -> None:
        self._client = client
        self._endpoint = client.open(template)

    def __call__(self, batch: Batch) -> Sequence[Outcome]:
        """Send the one item of `batch`."""
        (item,), (key,) = batch.items, idempotency_keys(batch)
        if batch.kind is Kind.IDS:
            outcome = self._client.send("GET", self._at(item), key, batch.attempt)
        else:
            outcome = self._client.send("POST", self._at(item["id"]), key, batch.attempt, item)
        return [outcome]

    def _at(self, name: int | str) -> Endpoint:
        quoted = str(name) if isinstance(name, int) else quote(name, safe="")
        if not quoted.strip("."):
            # Not to be taken for a path segment that leads upwards.
            quoted = quoted.replace(".", "%2E")
        return self._endpoint._replace(target=self._endpoint.target.replace("{id}", quoted))


class BatchConnector:
    """One POST a batch; the answer lists an outcome an item, or says the same for all."""

    tells_when_sent = True

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self._endpoint = client.open(url)

    def __call__(self, batch: Batch) -> Sequence[Outcome]:
        """Send all items of `batch`."""
        payload = {"batch_id": batch.batch_id, batch.kind.value: list(batch.items)}
        size = len(batch.items)
        whole = self._client.send("POST", self._endpoint, _key(batch), batch.attempt, payload, size)
        return listed_outcomes(batch, whole)


def _key(batch: Batch) -> str:
    """Return the same for every attempt at the same items."""
    if isinstance(batch.offsets, range):
        return batch.batch_id
    # What is left of a batch is another request than all of it.
    offsets = "-".join(map(str, batch.offsets))
    if len(offsets) > _LONGEST_OFFSETS:
        offsets = hashlib.sha256(offsets.encode()).hexdigest()
    return f"{batch.batch_id}/{offsets}"
