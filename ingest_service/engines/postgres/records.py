"""What is on record: the starts, and who did what; and how the machinery is."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from operator import itemgetter

from ingest_service.domain.history import MINUTE, minute_of
from ingest_service.domain.rollup import Counts
from ingest_service.engines import EXAMPLES, GAP_TOLERANCE, RateProof, Start
from ingest_service.engines.audit import Action, AuditEntry, AuditPlace, AuditQuery
from ingest_service.engines.history import History, QueueNow, told
from ingest_service.engines.micros import to_datetime
from ingest_service.engines.options import EngineOptions
from ingest_service.engines.postgres.database import Database, Transaction
from ingest_service.engines.postgres.listening import Listening
from ingest_service.engines.postgres.rollups import depth_of, recorded, totals
from ingest_service.engines.postgres.slots import pace_of
from ingest_service.engines.vitals import StorageVitals, Vitals

_LAST = datetime(9999, 1, 1, tzinfo=UTC)


class PostgresRecords:
    """See `Records`."""

    def __init__(self, database: Database, options: EngineOptions, listening: Listening) -> None:
        self._database = database
        self._options = options
        self._listening = listening

    def rate_proof(self, since: datetime | None, until: datetime | None) -> RateProof:
        """Read the starts of the period."""
        period = {"since": since, "until": until, "tolerance": GAP_TOLERANCE}
        with self._database.reading() as tx:
            rate = tx.row("rate", **period)
            early = tx.rows("early_starts", limit=EXAMPLES, **period) if rate.early else []
        examples = [Start(row.at, str(row.id), row.batch, row.gap, row.required) for row in early]
        return RateProof(rate.starts, rate.smallest, rate.early, examples)

    def audit(self, query: AuditQuery) -> list[AuditEntry]:
        """Merge the newest marks with the newest submissions."""
        with self._database.reading() as tx:
            entries = list(self._entries(tx, query))
        return sorted(entries, reverse=True, key=itemgetter(0))[: query.limit]

    def history(self, since: datetime, until: datetime, step: timedelta) -> History:
        """Read it together with how it is now."""
        cuts = range(minute_of(since), minute_of(until) + 1, step // MINUTE)
        with self._database.reading() as tx:
            row = tx.row("moment")
            of_period = recorded(tx, max(since, row.at - self._options.retention), until, cuts)
        interval = pace_of(row, self._options, 0.0).interval
        now = QueueNow(row.at, interval, row.paused is not None, depth_of(row))
        return told(of_period, since, until, step, now)

    def totals(self) -> Counts:
        """Read it."""
        with self._database.reading() as tx:
            return totals(tx)

    def vitals(self) -> Vitals:
        """Ask how large the database is; commits and slots are counted where they happen."""
        with self._database.reading() as tx:
            size = tx.row("database_size").bytes
        return Vitals(StorageVitals({}, {"database": size}), self._listening.count())

    def check(self) -> None:
        """Write nothing, where something could be written."""
        with self._database.transaction() as tx:
            tx.run("probe")

    def _entries(self, tx: Transaction, query: AuditQuery) -> Iterator[AuditEntry]:
        values = {
            "since": query.since,
            "until": query.until,
            "before": _time(query.before),
            "source": query.before.source,
            "number": query.before.number,
            "key": query.key,
            "limit": query.limit,
            "retention": self._options.retention,
        }
        kinds = [action.value for action in query.actions if action is not Action.SUBMIT]
        for row in tx.rows("audited_marks", kinds=kinds, **values):
            yield AuditEntry(
                AuditPlace(row.micros, 1, row.mark),
                row.at,
                row.key,
                Action(row.kind),
                row.target,
                row.before,
                row.after,
                row.request_id,
            )
        if Action.SUBMIT not in query.actions:
            return
        for row in tx.rows("audited_submissions", **values):
            yield AuditEntry(
                AuditPlace(row.micros, 0, row.sequence),
                row.created_at,
                row.submitted_by,
                Action.SUBMIT,
                str(row.id),
                None,
                {"kind": row.kind, "items": row.total},
                row.request_id,
            )


def _time(place: AuditPlace) -> datetime:
    try:
        return to_datetime(place.at)
    except OverflowError:
        # Whoever invents a place beyond all calendars gets a full page.
        return _LAST
