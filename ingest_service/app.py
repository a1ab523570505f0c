"""The composition root: the one place where parts are chosen and joined."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, Any, Protocol

from flask import Flask

from ingest_service import logs, web
from ingest_service.clock import Clock, SystemClock
from ingest_service.domain.items import Kind
from ingest_service.domain.policy import Policy, Rule
from ingest_service.domain.retry_policy import RetryPolicy
from ingest_service.engines import Bookkeeping, Control, Following, Intake, Reading, Records
from ingest_service.engines.embedded.engine import EmbeddedEngine, embedded_engine
from ingest_service.engines.embedded.journal import Journal
from ingest_service.engines.embedded.journals import exporting, importing
from ingest_service.engines.embedded.journals.memory import MemoryJournal
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.engines.embedded.worker import Worker
from ingest_service.engines.options import EngineOptions
from ingest_service.engines.transfer.lines import Reader, Summary
from ingest_service.errors import SettingsError, StorageUnavailable
from ingest_service.keys.keyring import Keyring
from ingest_service.service import Service
from ingest_service.service.operator import Operator
from ingest_service.service.queries import Queries
from ingest_service.service.submissions import Submissions
from ingest_service.settings import BATCH, DATABASE, IN_MEMORY, SIMULATED, Settings
from ingest_service.upstreams.http import BatchConnector, Client, ItemConnector, Limits
from ingest_service.upstreams.http_config import connection_pool, watched_headers
from ingest_service.upstreams.protocol import Connector, Upstream
from ingest_service.upstreams.python import load_connector
from ingest_service.upstreams.simulated import SimulatedUpstream
from ingest_service.upstreams.threaded import ThreadedUpstream
from ingest_service.web.lean_flask import LeanFlask

if TYPE_CHECKING:
    from ingest_service.engines.postgres.dispatch import Defer
    from ingest_service.engines.postgres.engine import WorkerParts
    from ingest_service.engines.postgres.work import WorkerProcess


class Engine(Protocol):
    """The queue's one owner, as far as a process that answers needs it."""

    @property
    def intake(self) -> Intake: ...
    @property
    def reading(self) -> Reading: ...
    @property
    def control(self) -> Control: ...
    @property
    def records(self) -> Records: ...
    @property
    def following(self) -> Following: ...
    @property
    def bookkeeping(self) -> Bookkeeping: ...

    def start(self) -> None:
        """Send batches from now on, if that is done here."""
        ...

    def drain(self) -> None:
        """Take nothing and start nothing from now on; answer all who wait for a change."""
        ...

    def close(self, timeout: float) -> None:
        """Take nothing and start nothing; let what is under way end in `timeout` seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What `build` joined together."""

    service: Service
    engine: Engine
    #: None where nobody needs a key.
    keyring: Keyring | None

    @property
    def worker(self) -> Worker:
        """The thread that sends batches, where there is one."""
        return self.embedded.worker

    @property
    def journal(self) -> Journal:
        """What keeps accepted work, where that is a part of its own."""
        return self.embedded.journal

    @property
    def embedded(self) -> EmbeddedEngine:
        """The engine in this process, where it is that one."""
        if not isinstance(self.engine, EmbeddedEngine):
            raise TypeError("only the embedded engine has a worker and a journal")
        return self.engine

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
    if settings.journal.startswith(DATABASE):
        engine = _postgres_engine(settings, clock, upstream)
    else:
        engine = _embedded_engine(settings, clock, journal, upstream)
    queries = Queries(clock, engine.reading, engine.following, engine.records)
    batch_sizes = {
        Kind.IDS: settings.batch_size_ids,
        Kind.MAPPINGS: settings.batch_size_mappings,
    }
    operator = Operator(engine.control, engine.bookkeeping, queries)
    service = Service(
        submissions=Submissions(engine.intake, engine.reading, queries, batch_sizes),
        queries=queries,
        operator=operator,
    )
    path = settings.api_keys_file
    keyring = None if path is None else Keyring(path, clock, partial(_record_keys, operator))
    return Parts(service, engine, keyring)


def _record_keys(operator: Operator, before: list[Any], after: list[Any]) -> None:
    try:
        operator.keys_reloaded(before, after)
    except StorageUnavailable as error:
        logs.event("keys_change_unrecorded", level=logging.ERROR, reason=str(error))


def _embedded_engine(
    settings: Settings, clock: Clock, journal: Journal | None, upstream: Upstream | None
) -> Engine:
    return embedded_engine(
        clock,
        journal or _journal(settings, clock),
        upstream or _upstream(settings, clock),
        _options(settings),
        settle=settings.settle,
        max_response=settings.upstream_max_response,
    )


def _postgres_engine(settings: Settings, clock: Clock, upstream: Upstream | None) -> Engine:
    """Join a replica; the packages it needs are looked for only now."""
    address = database_address(settings)
    from ingest_service.engines.postgres.engine import postgres_engine
    from ingest_service.engines.postgres.migrations import check_schema

    check_schema(address)

    return postgres_engine(
        clock,
        address,
        _options(settings),
        settle=settings.settle,
        latency=lambda: upstream.latency if upstream else _latency(settings),
        now=_test_time(clock),
    )


def database_address(settings: Settings) -> str:
    """Return what to connect to the database with; the password in it is for nobody's eyes.

    Asked before anything of the engine is imported: it tells whether that can be.
    """
    if not settings.journal.startswith(DATABASE):
        raise SettingsError(
            f"INGEST_JOURNAL={settings.journal} is no database; this needs {DATABASE}..."
        )
    if find_spec("psycopg") is None or find_spec("procrastinate") is None:
        raise SettingsError(
            "INGEST_JOURNAL names a PostgreSQL database, and the packages for it are not "
            "installed: pip install 'ingest-service[postgres]'."
        )
    from ingest_service.engines.postgres.database import connection_string

    return connection_string(settings.journal, settings.database_password_file)


def build_worker(
    settings: Settings,
    defer: "Defer",
    *,
    clock: Clock | None = None,
    upstream: Upstream | None = None,
    connections: int = 4,
) -> "WorkerParts":
    """Join the parts of a process that sends batches, with PostgreSQL."""
    address = database_address(settings)
    from ingest_service.engines.postgres.database import Database
    from ingest_service.engines.postgres.engine import worker_parts

    clock = clock or SystemClock()
    database = Database(address, connections, _test_time(clock))
    return worker_parts(
        clock,
        database,
        upstream or _upstream(settings, clock),
        _options(settings),
        defer,
        settle=settings.settle,
        max_response=settings.upstream_max_response,
    )


def worker_process(settings: Settings, threads: int) -> "WorkerProcess":
    """Join a process that sends batches; it has this to do alone."""
    address = database_address(settings)
    from ingest_service.engines.postgres.carriage import Carriage, deferring
    from ingest_service.engines.postgres.migrations import check_schema
    from ingest_service.engines.postgres.work import Opener, WorkerProcess

    check_schema(address)
    clock = SystemClock()
    parts = build_worker(settings, deferring(), clock=clock, connections=threads + 2)
    carriage = Carriage(parts.database.conninfo, threads, parts.carrier.carry, parts.dispatch.lose)
    opener = Opener(clock, parts.dispatch, parts.carrier, parts.upkeep, threads)
    return WorkerProcess(opener, carriage, parts.upkeep, parts.database)


def migrate(settings: Settings, *, check: bool) -> str:
    """Bring the database's schema up to date, or only look; return in words how it is."""
    address = database_address(settings)
    from ingest_service.engines.postgres import migrations

    return migrations.check_schema(address) if check else migrations.migrate(address)


def export_journal(settings: Settings, stream: IO[bytes]) -> Summary:
    """Write everything in the journal that the settings name to `stream`."""
    if not settings.journal.startswith(DATABASE):
        return exporting.export(settings.journal, stream)
    address = database_address(settings)
    from ingest_service.engines.postgres.exporting import export

    return export(address, stream)


def import_journal(settings: Settings, reader: Reader) -> Summary:
    """Fill the journal that the settings name, which has to be empty, with what is read."""
    if not settings.journal.startswith(DATABASE):
        return importing.import_into(settings.journal, reader)
    address = database_address(settings)
    from ingest_service.engines.postgres.importing import import_into

    return import_into(address, reader)


def _latency(settings: Settings) -> float | None:
    """Return how long a batch takes, if that is known without asking the upstream."""
    return settings.simulated_latency if settings.upstream == SIMULATED else None


def _test_time(clock: Clock) -> Callable[[], datetime] | None:
    """Return what tells the time instead of the database, where time is a test's."""
    return None if isinstance(clock, SystemClock) else clock.now


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
    app = LeanFlask(__name__, static_folder=None)
    if parts is None:
        parts = build(settings)
        parts.engine.start()
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
    by_item = settings.has_http_upstream and not name.startswith(BATCH)
    if settings.has_http_upstream:
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
