"""The journal in a SQLite file: what it has answered survives `kill -9` and power cuts.

WAL with `synchronous=FULL`, so that a commit is on the disk when it returns;
one thread writes, and what has gathered while it wrote shares the next commit.
The SQLite is the one that apsw brings, because versions before 3.51.3 could
corrupt a WAL database when it was reset at the wrong moment.
"""

import fcntl
import logging
import os
import queue
import re
import threading
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import apsw

from ingest_service import logs
from ingest_service.errors import IdempotencyMismatch, JournalUnusable, StorageUnavailable
from ingest_service.journal import (
    EXAMPLES,
    GAP_TOLERANCE,
    KEY_LIFETIME,
    IdempotencyKey,
    Instant,
    ItemResult,
    RateProof,
    Recovered,
    Results,
    Settled,
    Start,
    Summary,
    Wanted,
    decode_outcomes,
    final_outcomes,
)
from ingest_service.model import ITEMS, Again, Batch, Counts, Ingestion, ItemState, Kind, Priority

T = TypeVar("T")
Row = tuple[Any, ...]

#: A batch that was started so often and never ended is not started again.
MAX_CRASHES = 3
#: How long a lock of another program is waited for, in milliseconds.
_BUSY_TIMEOUT = 1_000
#: Most records that share one commit, so that the first does not wait for all.
_GROUP = 128
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    # A large request makes a large WAL; this gives the space back.
    "journal_size_limit = 16777216",
    "trusted_schema = OFF",
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _statements(name: str) -> dict[str, str]:
    """Return the statements of a `.sql` file by the names in their headers."""
    text = files(__package__).joinpath(name).read_text("utf-8")
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


_SQL = _statements("queries.sql")
_MIGRATIONS = _statements("migrations.sql")
VERSION = max(map(int, _MIGRATIONS))


class _Record(NamedTuple):
    """Something to be written, and who waits for it."""

    write: Callable[[apsw.Connection], Any]
    done: "Future[Any]"
    #: Takes back what `write` wrote, if that must not stay when its commit fails.
    undo: Callable[[apsw.Connection], Any] | None


class SqliteJournal:
    """See `Journal`; raises `JournalUnusable` if the file cannot be opened."""

    def __init__(self, path: str | os.PathLike[str], vfs: str | None = None) -> None:
        self._path = Path(path)
        self._vfs = vfs
        self._lock = _lock_file(self._path.with_name(self._path.name + ".lock"))
        self._records: queue.SimpleQueue[_Record | None] = queue.SimpleQueue()
        self._writer: apsw.Connection | None = None
        #: Takes back what was refused and may have reached the disk all the same.
        self._doubtful: list[Callable[[apsw.Connection], Any]] = []
        self._closing = threading.Lock()
        self._closed = False
        self._reading = threading.Lock()
        self._reader: apsw.Connection | None = None
        try:
            self._writer = self._connect()
            _migrate(self._writer, self._path)
            _check_content(self._writer, self._path)
        except apsw.Error as error:
            self._release()
            raise JournalUnusable(_unusable(self._path, error)) from error
        except JournalUnusable:
            self._release()
            raise
        self._thread = threading.Thread(target=self._write_all, name="journal", daemon=True)
        self._thread.start()

    def recover(self) -> Recovered:
        """Read everything unfinished, once."""
        try:
            with self._reading:
                return _recover(self._connection_for_reading())
        except apsw.Error as error:
            raise JournalUnusable(_unusable(self._path, error)) from error

    def accepted(self, ingestion: Ingestion, key: IdempotencyKey | None) -> str:
        """Record the ingestion as a row, its items as a compact blob, and its key."""
        content = ingestion.items.to_bytes()
        created_at = _micros(ingestion.created_at)

        def write(db: apsw.Connection) -> str:
            if key is not None:
                stored = _claim(db, key, ingestion.ingestion_id, created_at)
                if stored != ingestion.ingestion_id:
                    return stored
            db.execute(
                _SQL["add_ingestion"],
                {
                    "sequence": ingestion.sequence,
                    "ingestion_id": ingestion.ingestion_id,
                    "kind": ingestion.items.kind.value,
                    "priority": int(ingestion.priority),
                    "batch_size": ingestion.batch_size,
                    "created_at": created_at,
                    "total": len(ingestion.items),
                },
            )
            db.execute(_SQL["add_content"], {"sequence": ingestion.sequence, "items": content})
            return ingestion.ingestion_id

        def undo(db: apsw.Connection) -> None:
            refused = {"ingestion_id": ingestion.ingestion_id, "sequence": ingestion.sequence}
            db.execute(_SQL["forget_content"], refused)
            db.execute(_SQL["forget_ingestion"], refused)
            if key is not None:
                db.execute(_SQL["release_key"], refused | {"key": key.key})

        return self._write(write, undo)

    def known(self, key: IdempotencyKey, at: datetime) -> str | None:
        """Look the key up."""
        return _match(self._read("find_key", key=key.key, before=_micros(at - KEY_LIFETIME)), key)

    def slot_taken(self, batch: Batch, instant: Instant) -> None:
        """Record the start and the slot in one transaction."""
        at = _micros(instant.at)
        start = _key(batch) | {
            "attempt": batch.attempt,
            "at": at,
            "places": _pack(batch.places),
            "gap": instant.gap,
            "required": instant.required,
        }

        def write(db: apsw.Connection) -> None:
            db.execute(_SQL["add_start"], start)
            db.execute(_SQL["note_started"], {"at": at, "sequence": batch.sequence})
            db.execute(
                _SQL["note_slot"],
                {"at": at, "monotonic": instant.monotonic, "era": instant.era},
            )

        self._write(write)

    def settled(self, batch: Batch, settled: Settled) -> None:
        """Complete the record of the start."""
        final, outcomes = final_outcomes(batch, settled)
        end = _key(batch) | {
            "at": _micros(settled.at),
            "item_states": bytes(each.state for each in settled.outcomes),
            "final": array("H", final).tobytes(),
            "outcomes": outcomes,
            "again_at": settled.again_at and _micros(settled.again_at),
            "again_as": settled.again and settled.again.attempt,
        }
        self._run("settle_start", end)

    def finished(self, ingestion: Ingestion) -> None:
        """Record the end with the states of all items, so that nobody has to add them up again."""
        end = {
            "at": _micros(cast(datetime, ingestion.finished_at)),
            "item_states": bytes(ingestion.item_states),
            "status": ingestion.counts.status.value,
            "succeeded": ingestion.counts.succeeded,
            "failed": ingestion.counts.failed,
            "cancelled": ingestion.counts.cancelled,
            "sequence": ingestion.sequence,
        }
        self._run("finish", end)

    def cancelled(self, ingestion: Ingestion, at: datetime) -> None:
        """Note it beside the ingestion; which items that is, follows from the starts."""
        values = {"at": _micros(at), "sequence": ingestion.sequence}
        self._run("cancel", values)

    def moved(self, ingestion: Ingestion, priority: Priority) -> None:
        """Change the class."""
        values = {"priority": int(priority), "sequence": ingestion.sequence}
        self._run("move", values)

    def rounds(self, ingestion_id: str) -> dict[int, int]:
        """Look up the last start of each batch."""
        return dict(cast(list[tuple[int, int]], self._read("rounds", ingestion_id=ingestion_id)))

    def reopened(self, ingestion: Ingestion, failed: Sequence[Again], at: datetime) -> None:
        """Undo the end, and add a row for each batch that asks for another attempt."""
        decisions = [
            {
                "sequence": ingestion.sequence,
                "batch": again.index,
                "round": again.round - 1,
                "at": _micros(at),
                "places": array("H", again.places).tobytes(),
                "item_states": bytes([ItemState.RETRYING]) * len(again.places),
                "again_as": again.attempt,
            }
            for again in failed
        ]

        def write(db: apsw.Connection) -> None:
            db.execute(_SQL["reopen"], {"sequence": ingestion.sequence})
            db.executemany(_SQL["add_decision"], decisions)

        self._write(write)

    def remember(self, name: str, value: str) -> None:
        """Replace the row."""
        self._run("remember", {"name": name, "value": value})

    def results(self, ingestion_id: str, indices: Iterable[int]) -> Results:
        """Read the batches from the first to the last of `indices`."""
        wanted = sorted(indices)
        if not wanted:
            return {}
        rows = self._read("results", ingestion_id=ingestion_id, first=wanted[0], last=wanted[-1])
        return {
            (index, place): ItemResult(_datetime(at), outcome)
            for index, final, at, text in rows
            for place, outcome in zip(_unpack(final, 0), decode_outcomes(text), strict=True)
        }

    def summaries(self, wanted: Wanted) -> list[Summary]:
        """Read the rows from the newest on."""
        rows = self._read(
            "summaries",
            before=wanted.before,
            limit=wanted.limit,
            status=wanted.status and wanted.status.value,
            priority=wanted.priority and int(wanted.priority),
            finished_since=_micros(wanted.finished_since),
        )
        return [_summary(row) for row in rows]

    def rate_proof(self, since: datetime, until: datetime) -> RateProof:
        """Read the starts of the period."""
        period = {
            "since": _micros(since),
            "until": _micros(until),
            "tolerance": GAP_TOLERANCE,
        }
        ((starts, smallest, violations),) = self._read("rate", **period)
        early = self._read("early_starts", limit=EXAMPLES, **period) if violations else []
        examples = [Start(_datetime(at), *rest) for at, *rest in early]
        return RateProof(starts, smallest, violations, examples)

    def find(self, ingestion_id: str) -> Ingestion | None:
        """Read a finished ingestion."""
        for *head, finished_at, item_states in self._read(
            "find_finished", ingestion_id=ingestion_id
        ):
            ingestion = _ingestion(head, bytearray(item_states))
            ingestion.finished_at = _datetime(finished_at)
            ingestion.next_batch = ingestion.batches_total
            ingestion.recount()
            ingestion.recorded = True
            return ingestion
        return None

    def prune(self, finished_before: datetime) -> int:
        """Forget up to 20 ingestions, or 2,000 starts of one: short enough not to be noticed."""
        before = _micros(finished_before)

        def write(db: apsw.Connection) -> int:
            gone = 0
            for (sequence,) in db.execute(_SQL["oldest_finished"], {"before": before}).fetchall():
                db.execute(_SQL["forget_starts"], {"sequence": sequence})
                if db.changes() == 2000:
                    return gone + 1
                db.execute(_SQL["forget_content"], {"sequence": sequence})
                db.execute(_SQL["forget_ingestion"], {"sequence": sequence})
                gone += 1
            return gone

        return self._write(write) if self._read("oldest_finished", before=before) else 0

    def check(self) -> None:
        """Write something."""
        self._run("probe")

    def close(self) -> None:
        """Write what is left; the last connection moves the WAL into the file."""
        with self._closing:
            self._closed = True
            self._records.put(None)
        self._thread.join()
        self._release()

    def _run(self, statement: str, values: Mapping[str, Any] | None = None) -> None:
        """Write by a single statement."""

        def write(db: apsw.Connection) -> None:
            # The cursor must not leave this thread: one that is dropped while the
            # connection is in use stays in a list of the connection for ever.
            db.execute(_SQL[statement], values)

        self._write(write)

    def _write(
        self,
        write: Callable[[apsw.Connection], T],
        undo: Callable[[apsw.Connection], Any] | None = None,
    ) -> T:
        done: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise StorageUnavailable("The journal is closed.")
            self._records.put(_Record(write, done, undo))
        return done.result()

    def _write_all(self) -> None:
        """Commit whatever has gathered, again and again, until told to end."""
        ended = False
        while not ended:
            group = [self._records.get()]
            while len(group) < _GROUP and not self._records.empty():
                group.append(self._records.get())
            ended = None in group
            records = [record for record in group if record is not None]
            if records or (ended and self._doubtful):
                self._commit(records)

    def _commit(self, records: Sequence[_Record]) -> None:
        """Write all `records` in one transaction: either every one is on the disk, or none."""
        results: list[Any] = []
        try:
            if self._writer is None:
                self._writer = self._connect()
            self._take_back(self._writer)
            self._writer.execute("BEGIN IMMEDIATE")
            results = [_attempt(record, self._writer) for record in records]
            self._writer.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - if the thread dies, everybody waits for ever
            unexpected = not isinstance(error, apsw.Error)
            logs.event(
                "storage_failed", level=logging.ERROR, exc_info=unexpected, reason=str(error)
            )
            self._disconnect()
            if results:
                self._doubtful = [record.undo for record in records if record.undo]
            results = [StorageUnavailable("The journal cannot be written.")] * len(records)
        for record, result in zip(records, results, strict=True):
            if isinstance(result, Exception):
                record.done.set_exception(result)
            else:
                record.done.set_result(result)

    def _take_back(self, db: apsw.Connection) -> None:
        """Make sure that what was refused is not there, before anything else is written.

        A commit whose sync fails may be in the WAL all the same, and whoever
        opens the file anew would find it.
        """
        if self._doubtful:
            db.execute("BEGIN IMMEDIATE")
            for undo in self._doubtful:
                undo(db)
            db.execute("COMMIT")
            self._doubtful = []

    def _read(self, statement: str, **values: Any) -> list[Row]:
        with self._reading:
            try:
                db = self._connection_for_reading()
                return list(db.execute(_SQL[statement], values))
            except apsw.Error as error:
                _close(self._reader)
                self._reader = None
                raise StorageUnavailable("The journal cannot be read.") from error

    def _connection_for_reading(self) -> apsw.Connection:
        if self._reader is None:
            self._reader = self._connect()
            self._reader.execute("PRAGMA query_only = ON")
        return self._reader

    def _connect(self) -> apsw.Connection:
        db = apsw.Connection(str(self._path), vfs=self._vfs)
        db.set_busy_timeout(_BUSY_TIMEOUT)
        for pragma in _PRAGMAS:
            db.execute(f"PRAGMA {pragma}").fetchall()
        return db

    def _disconnect(self) -> None:
        # After an error nothing is known about what the connection believes to
        # have written; a new one reads the file.
        _close(self._writer)
        self._writer = None

    def _release(self) -> None:
        with self._reading:
            _close(self._reader)
            self._reader = None
        self._disconnect()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _close(db: apsw.Connection | None) -> None:
    """Close `db`, whatever the disk says to that: what was committed is safe without it."""
    try:
        if db is not None:
            db.close(True)
    except apsw.Error as error:
        logs.event("storage_close_failed", level=logging.WARNING, reason=str(error))


def _attempt(record: _Record, db: apsw.Connection) -> Any:
    """Return what the record's writer returns, or the refusal it raises."""
    try:
        return record.write(db)
    except IdempotencyMismatch as refusal:
        return refusal


def _lock_file(path: Path) -> int | None:
    """Hold the lock of `path` as long as the process lives, however it ends."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalUnusable(
            f"{path}: {error.strerror}; is the folder there and writable?"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise JournalUnusable(
            f"{path}: another process uses this journal; stop it, or give this one a journal of "
            "its own with INGEST_JOURNAL."
        ) from error
    return descriptor


def _migrate(db: apsw.Connection, path: Path) -> None:
    (row,) = db.execute("PRAGMA user_version").fetchall()
    found = cast(int, row[0])
    if found > VERSION:
        raise JournalUnusable(
            f"{path}: written by a newer version (format {found}, this one knows {VERSION}); "
            "upgrade the service or use another file."
        )
    for version in range(found + 1, VERSION + 1):
        with db:
            db.execute(_MIGRATIONS[str(version)]).fetchall()
            db.execute(f"PRAGMA user_version = {version}")


def _check_content(db: apsw.Connection, path: Path) -> None:
    """Look for damage, as far as that does not delay the start."""
    if path.exists() and path.stat().st_size > 64 * 2**20:
        return
    found = [text for (text,) in db.execute("PRAGMA quick_check(1)")]
    if found != ["ok"]:
        raise apsw.CorruptError(found[0])


def _unusable(path: Path, error: apsw.Error) -> str:
    reason = " ".join(str(error).split())
    if isinstance(error, apsw.NotADBError | apsw.CorruptError):
        return (
            f"{path}: damaged, or not a journal ({reason}); put a backup in its place, "
            "or move it away to begin with an empty one."
        )
    return f"{path}: cannot be opened ({reason}); is the folder there and writable?"


def _claim(db: apsw.Connection, key: IdempotencyKey, ingestion_id: str, created_at: int) -> str:
    """Return the ingestion that `key` stands for: `ingestion_id` if the key is new."""
    before = created_at - KEY_LIFETIME // _MICROSECOND
    db.execute(_SQL["forget_keys"], {"before": before})
    rows = db.execute(_SQL["find_key"], {"key": key.key, "before": before}).fetchall()
    known = _match(rows, key)
    if known is not None:
        return known
    db.execute(
        _SQL["add_key"],
        {
            "key": key.key,
            "digest": key.digest,
            "ingestion_id": ingestion_id,
            "created_at": created_at,
        },
    )
    return ingestion_id


def _match(rows: Iterable[Row], key: IdempotencyKey) -> str | None:
    for digest, ingestion_id in rows:
        if digest != key.digest:
            raise IdempotencyMismatch
        return str(ingestion_id)
    return None


def _recover(db: apsw.Connection) -> Recovered:
    starts = groupby(db.execute(_SQL["starts_of_unfinished"]), key=lambda row: row[0])
    by_sequence = {sequence: list(rows) for sequence, rows in starts}
    unfinished: list[Ingestion] = []
    retries: list[tuple[datetime, str, Again]] = []
    hopeless: list[Batch] = []
    for *head, cancelled_at in db.execute(_SQL["unfinished"]):
        ingestion = _ingestion(head, bytearray())
        rows = by_sequence.get(ingestion.sequence, [])
        for index, starts_of_batch in groupby(rows, key=lambda row: int(row[1])):
            _replay(ingestion, index, list(starts_of_batch), retries, hopeless)
        if cancelled_at is not None:
            _give_up(ingestion, retries, _datetime(cast(int, cancelled_at)))
        if rows or cancelled_at is not None:
            ingestion.recount()
        unfinished.append(ingestion)
    (highest,) = db.execute(_SQL["last_sequence"]).fetchall()
    slots = [
        (Instant(_datetime(at), monotonic, era), taken)
        for at, monotonic, era, taken in db.execute(_SQL["last_slot"])
    ]
    return Recovered(
        unfinished=unfinished,
        retries=retries,
        hopeless=hopeless,
        last_sequence=cast(int, highest[0] or 0),
        last_slot=slots[0][0] if slots else None,
        slots=slots[0][1] if slots else 0,
        remembered=dict(cast(Iterable[tuple[str, str]], db.execute(_SQL["remembered"]))),
    )


def _replay(
    ingestion: Ingestion,
    index: int,
    starts: list[Row],
    retries: list[tuple[datetime, str, Again]],
    hopeless: list[Batch],
) -> None:
    """Bring a batch to where it was, by all its starts; sort in what is left of it."""
    span = ingestion.span(index)
    crashes = 0
    for *_, packed, settled_at, item_states, _, _ in starts:
        places = _unpack(packed, len(span))
        crashes = crashes + 1 if settled_at is None else 0
        states = item_states or bytes([ItemState.RETRYING]) * len(places)
        for place, state in zip(places, states, strict=True):
            ingestion.item_states[span.start + place] = state
    ingestion.next_batch = index + 1
    _, _, last_round, attempt, *_, item_states, again_at, again_as = starts[-1]
    if crashes >= MAX_CRASHES:
        hopeless.append(ingestion.batch(Again(index, last_round, attempt, places)))
    elif crashes:
        ingestion.again.append(Again(index, last_round + 1, attempt, places))
    elif again_at is not None:
        left = [
            place
            for place, state in zip(places, item_states, strict=True)
            if state == ItemState.RETRYING
        ]
        again = Again(index, last_round + 1, again_as, left)
        retries.append((_datetime(again_at), ingestion.ingestion_id, again))


def _give_up(
    ingestion: Ingestion, retries: list[tuple[datetime, str, Again]], at: datetime
) -> None:
    """Cancel what an ingestion was waiting with; what was under way is sent again."""
    under_way = list(ingestion.again)
    retries[:] = [each for each in retries if each[1] != ingestion.ingestion_id]
    ingestion.cancel(at)
    ingestion.again.extend(under_way)
    for again in under_way:
        start = ingestion.span(again.index).start
        for place in again.places:
            ingestion.item_states[start + place] = ItemState.RETRYING


def _summary(row: Row) -> Summary:
    sequence, ingestion_id, kind, priority, *times, total, succeeded, failed, cancelled = row
    created_at, started_at, finished_at = (
        None if each is None else _datetime(each) for each in times
    )
    return Summary(
        sequence=sequence,
        ingestion_id=ingestion_id,
        kind=Kind(kind),
        priority=Priority(priority),
        created_at=cast(datetime, created_at),
        started_at=started_at,
        finished_at=finished_at,
        counts=Counts(
            total=total,
            unsent=total - succeeded - failed - cancelled,
            in_flight=0,
            succeeded=succeeded,
            failed=failed,
            cancelled=cancelled,
            retrying=0,
        ),
    )


def _ingestion(head: Sequence[Any], item_states: bytearray) -> Ingestion:
    sequence, ingestion_id, kind, priority, batch_size, created_at, started_at, content = head
    return Ingestion(
        ingestion_id=ingestion_id,
        sequence=sequence,
        priority=Priority(priority),
        items=ITEMS[Kind(kind)].from_bytes(content),
        batch_size=batch_size,
        created_at=_datetime(created_at),
        started_at=None if started_at is None else _datetime(started_at),
        item_states=item_states,
    )


def _key(batch: Batch) -> dict[str, Any]:
    return {"sequence": batch.sequence, "batch": batch.index, "round": batch.round}


def _pack(places: Sequence[int]) -> bytes | None:
    """Return `places` as two bytes each; None for a range, which always means all."""
    return None if isinstance(places, range) else array("H", places).tobytes()


def _unpack(packed: bytes | None, size: int) -> Sequence[int]:
    if packed is None:
        return range(size)
    places = array("H")
    places.frombytes(packed)
    return places.tolist()


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _datetime(micros: int) -> datetime:
    return _EPOCH + micros * _MICROSECOND


def back_up(path: str, target: str) -> None:
    """Write a compact copy of the journal at `path` to the new file `target`.

    Works while a service uses the journal: it is one consistent read.
    """
    _use_existing(path, lambda db: db.execute("VACUUM INTO ?", (target,)).fetchall())


def verify(path: str) -> tuple[int, int]:
    """Read everything in the journal at `path`; return how many ingestions, and unfinished ones.

    Raise `JournalUnusable` if anything is damaged.
    """

    def look(db: apsw.Connection) -> tuple[int, int]:
        found = [str(text) for (text,) in db.execute("PRAGMA integrity_check(10)")]
        if found != ["ok"]:
            raise apsw.CorruptError("; ".join(found))
        (counts,) = db.execute(_SQL["count"]).fetchall()
        return cast(tuple[int, int], counts)

    return _use_existing(path, look)


def _use_existing(path: str, use: Callable[[apsw.Connection], T]) -> T:
    try:
        db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
        db.set_busy_timeout(_BUSY_TIMEOUT)
        try:
            return use(db)
        finally:
            db.close(True)
    except apsw.Error as error:
        raise JournalUnusable(_unusable(Path(path), error)) from error
