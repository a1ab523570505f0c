"""The journal in a SQLite file: what it has answered survives `kill -9` and power cuts."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime

import apsw

from ingest_service.clock import Clock, SystemClock
from ingest_service.domain.ingestion import Ingestion, IngestionSnapshot, Submission
from ingest_service.domain.rollup import Counts
from ingest_service.engines import IdempotencyKey, RateProof
from ingest_service.engines.audit import AuditEntry, AuditQuery
from ingest_service.engines.embedded.journal import (
    Change,
    Counted,
    FinishedQuery,
    Recovered,
    Results,
)
from ingest_service.engines.embedded.journals import reads, rollups
from ingest_service.engines.embedded.journals.changes import statements_of, submitted
from ingest_service.engines.embedded.journals.database import Database, execute
from ingest_service.engines.embedded.journals.free_space import FreeSpace
from ingest_service.engines.embedded.journals.recovery import recover
from ingest_service.engines.embedded.journals.rollups import RollupWriter, count_of
from ingest_service.engines.embedded.journals.rows import Row
from ingest_service.engines.embedded.journals.statements import SQL
from ingest_service.engines.history import Recorded
from ingest_service.engines.micros import to_micros
from ingest_service.engines.options import KEY_LIFETIME
from ingest_service.engines.vitals import StorageVitals
from ingest_service.errors import IdempotencyMismatch, StorageUnavailable

#: Most starts that one step of `prune` forgets.
_STARTS_PER_STEP = 2_000


class SqliteJournal:
    """See `Journal`; raises `JournalUnusable` if the file cannot be opened."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        clock: Clock | None = None,
        *,
        min_free_disk: int = 0,
        vfs: str | None = None,
    ) -> None:
        monotonic = (clock or SystemClock()).monotonic
        self._rollups = RollupWriter()
        self._db = Database(path, monotonic, self._rollups, vfs)
        self._space = FreeSpace(self._db.folder, min_free_disk, monotonic)

    def recover(self) -> Recovered:
        """Read everything unfinished, once."""
        self._db.once(self._rollups.load)
        return self._db.once(recover)

    def accept(
        self, submission: Submission, key: IdempotencyKey | None, then: Callable[[], None]
    ) -> "Future[str]":
        """Record the submission together with its key; give the id that the key stands for.

        Refuse it if the disk is nearly full; accepted work goes on.
        """
        if (shortage := self.shortage()) is not None:
            return self._accepted_before(submission, key, shortage)
        statements, counts = submitted(submission), count_of(submission)

        def write(db: apsw.Connection) -> str:
            stands_for = _claim(db, key, submission) if key else submission.ingestion_id
            if stands_for == submission.ingestion_id:
                execute(db, statements)
                self._rollups.count(submission.created_at, counts)
            return stands_for

        def publish(stands_for: str) -> None:
            if stands_for == submission.ingestion_id:
                then()

        return self._db.write(write, publish)

    def _accepted_before(
        self, submission: Submission, key: IdempotencyKey | None, shortage: str
    ) -> "Future[str]":
        """Answer a request that was accepted when there was room; refuse any other."""
        done: Future[str] = Future()
        try:
            stands_for = self.find_key(key, submission.created_at) if key else None
        except (IdempotencyMismatch, StorageUnavailable) as refusal:
            done.set_exception(refusal)
            return done
        if stands_for is None:
            done.set_exception(StorageUnavailable(shortage))
        else:
            done.set_result(stands_for)
        return done

    def find_key(self, key: IdempotencyKey, at: datetime) -> str | None:
        """Look the key up."""
        values = _name(key) | {"before": to_micros(at - KEY_LIFETIME)}
        rows = self._db.read(lambda db: list(db.execute(SQL["find_key"], values)))
        if rows:
            # It may have been read between its commit and the moment it became visible.
            self._db.await_visible()
        return _match(rows, key)

    def record(self, *changes: Change) -> None:
        """Write all `changes`, in their order, in one transaction."""
        statements = statements_of(changes)
        counted = [change for change in changes if isinstance(change, Counted)]

        def write(db: apsw.Connection) -> None:
            execute(db, statements)
            for change in counted:
                self._rollups.count(change.at, change.counts)

        self._db.write_now(write)

    def find(self, ingestion_id: str, batches: range) -> IngestionSnapshot | None:
        """Read the row, and the pieces with the items of `batches`."""
        return self._db.read(lambda db: reads.find(db, ingestion_id, batches))

    def load(self, ingestion_id: str) -> Ingestion | None:
        """Read all of a finished ingestion."""
        return self._db.read(lambda db: reads.load(db, ingestion_id))

    def item_states(self, ingestion_id: str) -> bytes:
        """Read the states of all items of a finished ingestion."""
        return self._db.read(lambda db: reads.item_states(db, ingestion_id))

    def keys(self, ingestion_id: str, indices: Iterable[int]) -> Mapping[int, Sequence[int | str]]:
        """Read the pieces with the items of the batches at `indices`."""
        return self._db.read(lambda db: reads.keys(db, ingestion_id, indices))

    def results(self, ingestion_id: str, indices: Iterable[int]) -> Results:
        """Read the starts of the batches at `indices`."""
        return self._db.read(lambda db: reads.results(db, ingestion_id, indices))

    def start_counts(self, ingestion_id: str) -> dict[int, int]:
        """Look up the last start of each batch."""
        return self._db.read(lambda db: reads.start_counts(db, ingestion_id))

    def finished(self, query: FinishedQuery) -> list[IngestionSnapshot]:
        """Read the rows from the newest on."""
        return self._db.read(lambda db: reads.finished(db, query))

    def rate_proof(self, since: datetime, until: datetime) -> RateProof:
        """Read the starts of the period."""
        return self._db.read(lambda db: reads.rate_proof(db, since, until))

    def audit(self, query: AuditQuery) -> list[AuditEntry]:
        """Read marks and rows from the newest on."""
        return self._db.read(lambda db: reads.audit(db, query))

    def history(self, since: datetime, until: datetime, cuts: Sequence[int] = ()) -> Recorded:
        """Read the minutes before cuts, and the marks of the period."""
        return self._db.read(lambda db: rollups.recorded(db, since, until, cuts))

    def totals(self) -> Counts:
        """Return what was added up as it was written."""
        return self._rollups.totals()

    def vitals(self) -> StorageVitals:
        """Look at the files, and at what was counted as it was written."""
        return StorageVitals(dict(self._db.commits), self._db.file_bytes())

    def attach(self, tell_depth: Callable[[], Counts]) -> None:
        """Let whoever writes ask for it."""
        self._rollups.tell_depth = tell_depth

    def oldest_finished(self) -> datetime | None:
        """Look it up in the index."""
        return self._db.read(reads.oldest_finished)

    def prune(self, finished_before: datetime) -> int:
        """Forget up to 20 ingestions, or 2,000 starts of one: short enough not to be noticed.

        Once all of them are forgotten, make the file smaller in steps that are as short.
        """
        oldest = self._db.read(reads.oldest_mark), self._db.read(rollups.oldest)
        dates = self.oldest_finished(), *oldest
        if not any(at is not None and at < finished_before for at in dates):
            return self._db.shrink()
        before = to_micros(finished_before)
        return self._db.write_now(lambda db: _forget(db, before))

    def check(self) -> None:
        """Commit nothing, which is something to be written all the same."""
        self._db.run([])

    def shortage(self) -> str | None:
        """Ask the disk."""
        return "The disk is nearly full." if self._space.is_short else None

    def close(self) -> None:
        """Write what is left; the last connection moves the WAL into the file."""
        self._db.close()


def _forget(db: apsw.Connection, before: int) -> int:
    """Forget some of what finished before, of marks and minutes; return how much that was."""
    db.execute(SQL["forget_marks"], {"before": before})
    gone = db.changes() + rollups.forget(db, before)
    for (sequence,) in db.execute(SQL["expired"], {"before": before}).fetchall():
        gone += 1
        db.execute(SQL["forget_results"], {"sequence": sequence})
        db.execute(SQL["forget_starts"], {"sequence": sequence})
        if db.changes() == _STARTS_PER_STEP:
            break
        for name in ("forget_content", "forget_states", "forget_ingestion"):
            db.execute(SQL[name], {"sequence": sequence})
    return gone


def _claim(db: apsw.Connection, key: IdempotencyKey, submission: Submission) -> str:
    """Return the ingestion that `key` stands for: that of `submission` if the key is new."""
    before = to_micros(submission.created_at - KEY_LIFETIME)
    db.execute(SQL["forget_keys"], {"before": before})
    rows = db.execute(SQL["find_key"], _name(key) | {"before": before}).fetchall()
    stands_for = _match(rows, key)
    if stands_for is not None:
        return stands_for
    db.execute(
        SQL["add_key"],
        {
            **_name(key),
            "digest": key.digest,
            "ingestion_id": submission.ingestion_id,
            "created_at": to_micros(submission.created_at),
        },
    )
    return submission.ingestion_id


def _name(key: IdempotencyKey) -> dict[str, object]:
    return {"owner": key.owner or "", "key": key.key}


def _match(rows: Iterable[Row], key: IdempotencyKey) -> str | None:
    for digest, ingestion_id in rows:
        if digest != key.digest:
            raise IdempotencyMismatch
        return str(ingestion_id)
    return None
