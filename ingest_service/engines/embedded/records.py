"""What is on record: the starts, and who did what; and how the machinery is."""

from dataclasses import replace
from datetime import datetime, timedelta

from ingest_service.domain.history import MINUTE, minute_of
from ingest_service.domain.rollup import Counts
from ingest_service.engines import RateProof
from ingest_service.engines.audit import AuditEntry, AuditQuery
from ingest_service.engines.embedded.core import Core
from ingest_service.engines.history import History, QueueNow, told
from ingest_service.engines.vitals import Vitals

#: More than the journal keeps beyond the retention, and than two clocks differ.
_KEPT_LONGER = timedelta(days=1)


class EmbeddedRecords:
    """See `Records`."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def rate_proof(self, since: datetime | None, until: datetime | None) -> RateProof:
        """Ask the journal."""
        now = self._core.clock.now()
        return self._core.journal.rate_proof(
            since or self._core.expiry() - _KEPT_LONGER, until or now + _KEPT_LONGER
        )

    def audit(self, query: AuditQuery) -> list[AuditEntry]:
        """Ask the journal, which may keep some a little longer than it should."""
        since = max(query.since, self._core.expiry())
        return self._core.journal.audit(replace(query, since=since))

    def history(self, since: datetime, until: datetime, step: timedelta) -> History:
        """Ask the journal, and put it together with how it is now."""
        core = self._core
        cuts = range(minute_of(since), minute_of(until) + 1, step // MINUTE)
        recorded = core.journal.history(max(since, core.expiry()), until, cuts)
        with core.lock:
            pace, depth = core.state.pace, core.state.index.depth()
        now = QueueNow(core.clock.now(), pace.interval, pace.paused is not None, depth)
        return told(recorded, since, until, step, now)

    def totals(self) -> Counts:
        """Ask the journal."""
        return self._core.journal.totals()

    def vitals(self) -> Vitals:
        """Ask the journal, and look at the state."""
        core = self._core
        storage = core.journal.vitals()
        with core.lock:
            meter = core.state.meter
            meter.advance(core.state.pace, core.clock.monotonic())
            return Vitals(storage, len(core.state.watches), meter.idle, meter.held)

    def check(self) -> None:
        """Write something."""
        self._core.journal.check()
