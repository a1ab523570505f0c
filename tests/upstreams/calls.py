"""Calls of an upstream without the service around it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from ingest_service.clock import SystemClock
from ingest_service.domain.items import Kind
from ingest_service.domain.model import Batch, Outcome
from ingest_service.settings import Settings
from ingest_service.upstreams.http import Client, ItemConnector, Limits
from ingest_service.upstreams.http_config import connection_pool, watched_headers
from ingest_service.upstreams.protocol import Call, Connector
from ingest_service.upstreams.threaded import ThreadedUpstream
from tests.realtime import eventually

_number = itertools.count()


class AheadClock(SystemClock):
    """Goes like the machine's, `ahead` seconds later."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


CLOCK = AheadClock()


def batch_of(*ids: int) -> Batch:
    """Return the first attempt at a batch of its own."""
    name = f"batch-{next(_number)}"
    return Batch(name, 1, name, Kind.IDS, 0, 1, 1, range(len(ids)), list(ids))


def client(timeout: float = 5.0, *, clock: SystemClock = CLOCK, **knobs: str) -> Client:
    """Return what sends requests, as the settings in `knobs` say."""
    settings = Settings(**knobs)  # type: ignore[arg-type]
    headers = watched_headers(settings.upstream_headers_file, clock)
    pools = connection_pool(settings, clock)
    return Client(clock, pools, Limits(timeout, 2**20), headers.current)


def upstream_of(connector: Connector, timeout: float = 5.0, **knobs: bool) -> ThreadedUpstream:
    """Return an upstream that sends a batch at a time, up to three items at a time."""
    knobs = {"by_item": False} | knobs
    return ThreadedUpstream(CLOCK, connector, timeout=timeout, at_a_time=3, **knobs)


def items_at(address: str, timeout: float = 5.0) -> ThreadedUpstream:
    """Return an upstream that sends each item to `address`."""
    return upstream_of(ItemConnector(client(timeout), address), timeout, by_item=True)


@dataclass
class Started:
    """A call, and how often there was news of it."""

    upstream: ThreadedUpstream
    batch: Batch
    news: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began = CLOCK.monotonic()
        self.call: Call = self.upstream.start(self.batch, self._note)

    def _note(self) -> None:
        self.news.append(CLOCK.monotonic())

    @property
    def ended(self) -> bool:
        """Whether it has ended, or is given up."""
        return self.call.ends_at() <= CLOCK.monotonic()

    def finish(self) -> Sequence[Outcome]:
        """Wait until it has ended; return the outcomes."""
        eventually("the end of the call", lambda: self.ended)
        return self.call.outcomes()
