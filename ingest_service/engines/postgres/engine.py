"""The engine on PostgreSQL, put together: for a process that answers, and for one that works."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ingest_service.clock import Clock
from ingest_service.engines.options import EngineOptions
from ingest_service.engines.postgres.bookkeeping import PostgresBookkeeping
from ingest_service.engines.postgres.carrier import Carrier
from ingest_service.engines.postgres.control import PostgresControl
from ingest_service.engines.postgres.database import Database
from ingest_service.engines.postgres.dispatch import Defer, PostgresDispatch
from ingest_service.engines.postgres.following import PostgresFollowing
from ingest_service.engines.postgres.intake import PostgresIntake
from ingest_service.engines.postgres.listening import Listening
from ingest_service.engines.postgres.pictures import Pictures
from ingest_service.engines.postgres.reading import PostgresReading
from ingest_service.engines.postgres.records import PostgresRecords
from ingest_service.engines.postgres.room import Room
from ingest_service.engines.postgres.upkeep import Upkeep
from ingest_service.upstreams.protocol import Upstream

#: Connections of a replica, at most: its threads wait for one another rather than for more.
REPLICA_CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class PostgresEngine:
    """All protocols but `Dispatch`; the batches are sent by workers, which are other processes."""

    intake: PostgresIntake
    reading: PostgresReading
    control: PostgresControl
    records: PostgresRecords
    following: PostgresFollowing
    bookkeeping: PostgresBookkeeping
    database: Database
    _pictures: Pictures
    _listening: Listening

    def start(self) -> None:
        """Nothing runs here besides answering."""

    def drain(self) -> None:
        """Take nothing from now on; answer all who wait for a change."""
        self.intake.draining = self._pictures.draining = True
        self._listening.release()

    def close(self, timeout: float) -> None:
        """Let go of the database; nothing is under way here."""
        del timeout
        self.drain()
        self._listening.stop()
        self.database.close()


def postgres_engine(
    clock: Clock,
    conninfo: str,
    options: EngineOptions,
    *,
    settle: float,
    latency: Callable[[], float | None],
    now: Callable[[], datetime] | None = None,
) -> PostgresEngine:
    """Join the parts of a replica; nothing is connected before the first request."""
    database = Database(conninfo, REPLICA_CONNECTIONS, now)
    listening = Listening(conninfo)
    pictures = Pictures(database, clock, options, settle, latency)
    room = Room(database, options, pictures)
    return PostgresEngine(
        PostgresIntake(database, room),
        PostgresReading(database, options, pictures),
        PostgresControl(database, clock, options, pictures, room),
        PostgresRecords(database, options, listening),
        PostgresFollowing(database, pictures, listening),
        PostgresBookkeeping(database),
        database,
        pictures,
        listening,
    )


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """What a worker consists of, without the loops."""

    carrier: Carrier
    upkeep: Upkeep
    dispatch: PostgresDispatch
    database: Database


def worker_parts(
    clock: Clock,
    database: Database,
    upstream: Upstream,
    options: EngineOptions,
    defer: Defer,
    *,
    settle: float,
    max_response: int,
) -> WorkerParts:
    """Join the parts of a worker."""
    dispatch = PostgresDispatch(database, clock, options, settle, defer)
    upkeep = Upkeep(database, clock, options, upstream.trouble)
    carrier = Carrier(clock, dispatch, upstream, options.retry_policy, max_response)
    return WorkerParts(carrier, upkeep, dispatch, database)
