"""The engine in one process, put together."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ingest_service.clock import Clock
from ingest_service.domain.pace import Pace
from ingest_service.engines.embedded.bookkeeping import EmbeddedBookkeeping
from ingest_service.engines.embedded.control import EmbeddedControl
from ingest_service.engines.embedded.core import Core
from ingest_service.engines.embedded.dispatch import EmbeddedDispatch
from ingest_service.engines.embedded.following import EmbeddedFollowing
from ingest_service.engines.embedded.housekeeping import Housekeeping
from ingest_service.engines.embedded.intake import EmbeddedIntake
from ingest_service.engines.embedded.journal import Journal
from ingest_service.engines.embedded.reading import EmbeddedReading
from ingest_service.engines.embedded.records import EmbeddedRecords
from ingest_service.engines.embedded.worker import Worker
from ingest_service.engines.options import EngineOptions
from ingest_service.upstreams.protocol import Upstream


@dataclass(frozen=True, slots=True)
class EmbeddedEngine:
    """All protocols over one state, and the thread that drains it."""

    intake: EmbeddedIntake
    reading: EmbeddedReading
    control: EmbeddedControl
    records: EmbeddedRecords
    following: EmbeddedFollowing
    bookkeeping: EmbeddedBookkeeping
    worker: Worker
    journal: Journal
    _core: Core

    def start(self) -> None:
        """Send batches from now on."""
        self.worker.start()

    def drain(self) -> None:
        """Take nothing and start nothing from now on; answer all who wait for a change."""
        self._core.drain()

    def close(self, timeout: float) -> None:
        """Let the batch in flight end, in `timeout` seconds at most, and leave a clean journal."""
        self.drain()
        self.worker.stop(timeout)
        self.journal.close()


def embedded_engine(
    clock: Clock,
    journal: Journal,
    upstream: Upstream,
    options: EngineOptions,
    *,
    settle: float,
    max_response: int,
) -> EmbeddedEngine:
    """Join the parts, and go on where the journal's last process ended."""
    core = Core(clock, journal, options, Pace(options.interval, settle), lambda: upstream.latency)
    with _without_collections():
        recovered = journal.recover()
        journal.attach(core.depth)
        core.recover(recovered)
    reading = EmbeddedReading(core)
    worker = Worker(
        clock,
        EmbeddedDispatch(core),
        upstream,
        options.retry_policy,
        Housekeeping(core),
        max_response,
    )
    core.attach(worker.wake, lambda: worker.state)
    return EmbeddedEngine(
        EmbeddedIntake(core),
        reading,
        EmbeddedControl(core, reading),
        EmbeddedRecords(core),
        EmbeddedFollowing(core),
        EmbeddedBookkeeping(core),
        worker,
        journal,
        core,
    )


@contextmanager
def _without_collections() -> Iterator[None]:
    """Leave the garbage alone: there is none, and looking for it takes half of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
