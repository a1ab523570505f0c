"""What is on record: the starts, and who did what."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ingest_service.domain.caller import Caller
from ingest_service.engines import RateProof
from ingest_service.engines.audit import AuditEntry, AuditQuery, MarkKind
from ingest_service.engines.embedded.core import Core

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

    def note(self, kind: MarkKind, before: Any, after: Any, caller: Caller) -> None:
        """Record a mark, with nothing beside it."""
        self._core.journal.record(self._core.mark(kind, caller, None, before, after))

    def check(self) -> None:
        """Write something."""
        self._core.journal.check()
