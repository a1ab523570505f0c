"""The composition root: the one place where parts are chosen and joined."""

import os
from dataclasses import dataclass
from datetime import timedelta

from flask import Flask

from ingest_service import web
from ingest_service.clock import Clock, SystemClock
from ingest_service.domain.items import Kind
from ingest_service.domain.policy import Policy, Rule
from ingest_service.domain.retry_policy import RetryPolicy
from ingest_service.engines.embedded.engine import EmbeddedEngine, embedded_engine
from ingest_service.engines.embedded.journal import Journal
from ingest_service.engines.embedded.journals.memory import MemoryJournal
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.engines.embedded.worker import Worker
from ingest_service.engines.options import EngineOptions
from ingest_service.keys.keyring import Keyring
from ingest_service.service import Service
from ingest_service.service.operator import Operator
from ingest_service.service.queries import Queries
from ingest_service.service.submissions import Submissions
from ingest_service.settings import BATCH, IN_MEMORY, SIMULATED, Settings
from ingest_service.upstreams.http import BatchConnector, Client, ItemConnector, Limits
from ingest_service.upstreams.http_config import connection_pool, watched_headers
from ingest_service.upstreams.protocol import Connector, Upstream
from ingest_service.upstreams.python import load_connector
from ingest_service.upstreams.simulated import SimulatedUpstream
from ingest_service.upstreams.threaded import ThreadedUpstream


@dataclass(frozen=True, slots=True)
class Parts:
    """What `build` joined together."""

    service: Service
    engine: EmbeddedEngine
    #: None where nobody needs a key.
    keyring: Keyring | None

    @property
    def worker(self) -> Worker:
        """The thread that sends batches."""
        return self.engine.worker

    @property
    def journal(self) -> Journal:
        """What keeps accepted work."""
        return self.engine.journal

    def close(self, timeout: float) -> None:
        """Let the batch in flight end, in `timeout` seconds at most, and leave a clean journal."""
        self.engine.close(timeout)


def build(
    settings: Settings,
    *,
    clock: Clock | None = None,
    journal: Journal | None = None,
    upstream: Upstream | None = None,
) -> Parts:
    """Join the parts that `settings` name; a test brings its own clock or upstream."""
    clock = clock or SystemClock()
    engine = embedded_engine(
        clock,
        journal or _journal(settings, clock),
        upstream or _upstream(settings, clock),
        _options(settings),
        settle=settings.settle,
        max_response=settings.upstream_max_response,
    )
    queries = Queries(clock, engine.reading, engine.records)
    batch_sizes = {
        Kind.IDS: settings.batch_size_ids,
        Kind.MAPPINGS: settings.batch_size_mappings,
    }
    service = Service(
        submissions=Submissions(engine.intake, engine.reading, queries, batch_sizes),
        queries=queries,
        operator=Operator(engine.control, engine.records, queries),
    )
    path = settings.api_keys_file
    return Parts(service, engine, None if path is None else Keyring(path, clock))


def _options(settings: Settings) -> EngineOptions:
    return EngineOptions(
        rule=Rule(Policy(settings.policy), settings.aged_after),
        retry_policy=RetryPolicy(
            max_attempts=settings.max_attempts,
            backoff=settings.backoff,
            backoff_max=settings.backoff_max,
            max_retry_after=settings.upstream_max_hold,
        ),
        retention=timedelta(seconds=settings.retention),
        max_concurrent=settings.max_concurrent_batches,
        max_queued_items=settings.max_queued_items,
        max_ingestions=settings.max_ingestions,
        interval=settings.interval,
    )


def create_app(settings: Settings | None = None, parts: Parts | None = None) -> Flask:
    """Build the WSGI application and start its worker thread.

    Without `settings` they are read from the environment, and work is kept in
    memory unless it names a journal. Whoever brings `parts` also starts their worker.
    """
    settings = settings or Settings.from_env(os.environ)
    app = Flask(__name__, static_folder=None)
    if parts is None:
        parts = build(settings)
        parts.worker.start()
    web.init_app(app, settings, parts.service, parts.keyring)
    app.extensions["ingest_parts"] = parts
    return app


def _journal(settings: Settings, clock: Clock) -> Journal:
    if settings.journal == IN_MEMORY:
        return MemoryJournal()
    return SqliteJournal(settings.journal, clock, min_free_disk=settings.min_free_disk)


def _upstream(settings: Settings, clock: Clock) -> Upstream:
    name = settings.upstream
    if name == SIMULATED:
        rates = {
            Kind.IDS: settings.simulated_success_rate_ids,
            Kind.MAPPINGS: settings.simulated_success_rate_mappings,
        }
        return SimulatedUpstream(clock, settings.simulated_latency, rates, settings.simulated_seed)
    connector: Connector
    by_item = name.startswith(("http://", "https://"))
    if by_item or name.startswith(BATCH):
        client = Client(
            clock,
            connection_pool(settings, clock),
            Limits(settings.upstream_timeout, settings.upstream_max_response),
            watched_headers(settings.upstream_headers_file, clock).current,
        )
        if by_item:
            connector = ItemConnector(client, name)
        else:
            connector = BatchConnector(client, name.removeprefix(BATCH))
    else:
        connector = load_connector(name)
    batch_size = max(settings.batch_size_ids, settings.batch_size_mappings) if by_item else 1
    return ThreadedUpstream(
        clock,
        connector,
        timeout=settings.upstream_timeout,
        at_a_time=settings.max_concurrent_batches * batch_size,
        by_item=by_item,
    )
