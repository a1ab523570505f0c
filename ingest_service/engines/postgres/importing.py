"""A journal in a database, written as a whole out of what another one was moved by."""

from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import conninfo as conninfos
from psycopg.types.json import Jsonb

from ingest_service.domain.model import Counts, ItemState, Priority
from ingest_service.domain.rollup import both
from ingest_service.engines.chunks import content_chunks
from ingest_service.engines.micros import to_datetime, to_optional_datetime
from ingest_service.engines.offsets import pack_offsets
from ingest_service.engines.postgres.database import Connection, Transaction
from ingest_service.engines.postgres.exporting import first_line
from ingest_service.engines.postgres.migrations import check_version, connected
from ingest_service.engines.postgres.pictures import SEEN_WITHIN
from ingest_service.engines.postgres.statements import SQL
from ingest_service.engines.transfer.filling import Filling, orphan
from ingest_service.engines.transfer.lines import Reader, Summary
from ingest_service.engines.transfer.records import (
    BatchRecord,
    IngestionRecord,
    ItemsRecord,
    KeyRecord,
    MarkRecord,
    MinuteRecord,
    QueueRecord,
    Record,
    RetryRecord,
    StartRecord,
    TotalsRecord,
)
from ingest_service.engines.transfer.rows import packed
from ingest_service.engines.transfer.states import (
    chosen,
    crashes_of,
    start_states,
    states_of,
    without_hope,
)
from ingest_service.errors import JournalUnusable

#: How much is gathered before it is written: rows, and bytes of those that can be long.
_MOST_ROWS, _MOST_BYTES = 20_000, 16 * 2**20
#: In an order in which nothing comes before what it belongs to.
_TABLES = (
    "ingestions", "content", "batches", "outcomes", "starts", "retries", "keys", "marks",
    "minutes", "depths",
)  # fmt: skip


def import_into(conninfo: str, reader: Reader) -> Summary:
    """Fill the database with what `reader` reads, in one transaction.

    Refuse it while a worker or a replica is connected, and if something was ever submitted.
    """
    try:
        # Under a name of its own, to be told from those.
        conninfo = conninfos.make_conninfo(conninfo, application_name="ingest_service import")
        with connected(conninfo) as connection:
            check_version(connection)
            tx = Transaction(connection, None)
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            _refuse_filled(tx)
            return _Filling(tx).fill(reader)
    except psycopg.DataError as error:
        raise JournalUnusable(
            f"Something cannot be kept in this database: {first_line(error)}; nothing was imported."
        ) from None
    except psycopg.Error as error:
        raise JournalUnusable(
            f"The database cannot be filled: {first_line(error)}; nothing was imported."
        ) from None


def _refuse_filled(tx: Transaction) -> None:
    try:
        tx.run("lock_everything")
        in_use = tx.row("others", seen_within=SEEN_WITHIN).number
    except psycopg.errors.LockNotAvailable:
        in_use = True
    if in_use:
        raise JournalUnusable(
            "Replicas or workers use this database, or did a moment ago; stop them all first."
        )
    if tx.row("is_filled").filled:
        raise JournalUnusable("The database is not empty; name another one with --journal.")


@dataclass(slots=True)
class _Progress:
    """How far the ingestion is whose batches are being read."""

    record: IngestionRecord
    next_batch: int = 0
    lined: int = 0
    #: Items in batches that were started, and how many of them are where.
    items: int = 0
    states: list[int] = field(default_factory=lambda: [0] * len(ItemState))
    last_end: int | None = None
    #: Whether there is a row of it already, as if nothing had been started.
    is_written: bool = False

    def counts(self) -> Counts:
        """Return how many items are where; what was never sent waits, unless it was cancelled."""
        of = self.record
        if of.counts is not None:
            good, bad, given_up = of.counts
            return Counts(of.total, of.total - sum(of.counts), 0, good, bad, given_up, 0)
        states = list(self.states)
        never_sent = ItemState.CANCELLED if of.cancelled else ItemState.QUEUED
        states[never_sent] += of.total - self.items
        return Counts(of.total, *states)

    def values(self) -> dict[str, Any]:
        """Return how far it is, by column."""
        of, counts = self.record, self.counts()
        is_final = counts.status.final
        # Its end may not be on record: whoever goes on would never look at it again.
        ended = of.finished_at or (is_final and (self.last_end or of.created_at)) or None
        return {
            "finished_at": to_optional_datetime(ended),
            "next_batch": -(-of.total // of.batch_size)
            if of.cancelled or ended is not None
            else self.next_batch,
            "lined": self.lined,
            "unsent": counts.unsent,
            "succeeded": counts.succeeded,
            "failed": counts.failed,
            "given_up": counts.cancelled,
            "retrying": counts.retrying,
            "status": None if ended is None else counts.status.value,
        }


class _Filling(Filling):
    """Writes records, a lot at a time."""

    def __init__(self, tx: Transaction) -> None:
        super().__init__()
        self._tx = tx
        self._rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _TABLES}
        self._number = self._bytes = 0
        self._progress: _Progress | None = None
        for statement in (
            "count_later", "stage_starts", "forget_beginnings", "forget_counted",
            "forget_minutes", "forget_depth",
        ):  # fmt: skip
            tx.run(statement)

    def add(self, record: Record) -> None:
        """Write a record, with what has gathered if that is a lot."""
        super().add(record)
        if self._number > _MOST_ROWS or self._bytes > _MOST_BYTES:
            self._flush()

    def end(self) -> None:
        """Write what is left, and what follows from all of it."""
        super().end()
        self._flush()
        for statement in (
            "add_starts", "sum_up", "sum_up_owned", "go_on_counting", "end_history",
            "count_again", "look_through",
        ):  # fmt: skip
            self._tx.run(statement)

    def _put(self, table: str, *row: Any, size: int = 0) -> None:
        self._rows[table].append(row)
        self._number += 1
        self._bytes += size

    def _flush(self) -> None:
        if self._progress is not None and not self._progress.is_written:
            # What follows belongs to a row.
            self._put_ingestion(_Progress(self._progress.record))
            self._progress.is_written = True
        for table in _TABLES:
            if rows := self._rows[table]:
                _copy(self._tx.connection, table, rows)
                rows.clear()
        self._number = self._bytes = 0

    def _add_ingestion(self, record: IngestionRecord) -> None:
        self._progress = _Progress(record)

    def _end_ingestion(self) -> None:
        progress, self._progress = self._progress, None
        if progress is None:
            return
        if progress.is_written:
            self._tx.run("progress", sequence=progress.record.sequence, **progress.values())
        else:
            self._put_ingestion(progress)

    def _put_ingestion(self, progress: _Progress) -> None:
        of = progress.record
        values = progress.values()
        self._put(
            "ingestions", of.sequence, of.ingestion_id, of.kind, of.priority, of.batch_size,
            -(-of.total // of.batch_size), of.total, to_datetime(of.created_at),
            of.created_at / 1e6, to_optional_datetime(of.started_at), values["finished_at"],
            of.cancelled, to_optional_datetime(of.finished_at) if of.deleted else None,
            values["next_batch"], values["lined"],
            values["unsent"], values["succeeded"], values["failed"], values["given_up"],
            values["retrying"], values["status"], of.submitted_by, of.request_id,
        )  # fmt: skip

    def _of(self, record: ItemsRecord | BatchRecord) -> _Progress:
        if self._progress is None:
            raise orphan(record)
        return self._progress

    def _add_items(self, record: ItemsRecord) -> None:
        sequence = self._of(record).record.sequence
        for chunk in content_chunks(record.items):
            first = record.first_item + chunk.first_item
            row = sequence, first, chunk.content, int(chunk.packing)
            self._put("content", *row, size=len(chunk.content))

    def _add_batch(self, record: BatchRecord) -> None:
        progress = self._of(record)
        of = progress.record
        size = of.size(record.batch)
        record = without_hope(record, size)
        after = [start_states(start, size) for start in record.starts]
        for start, sent in zip(record.starts, after, strict=True):
            self._put_start(progress, record.batch, start, sent)
        if of.deleted:
            return
        states = states_of(record, after, size)
        retry = record.retry or _of_lost(record)
        if retry is not None and of.finished_at is None:
            at_once = retry.due is None
            progress.lined += at_once
            self._put(
                "retries", of.sequence, record.batch, retry.start_no, retry.attempt,
                packed(retry.offsets),
                float("-inf") if retry.due is None else retry.due / 1e6, at_once,
            )  # fmt: skip
        starts = retry.start_no - 1 if retry else record.starts[-1].start_no
        row = of.sequence, record.batch, bytes(states), starts, crashes_of(record)
        self._put("batches", *row, size=size)
        progress.next_batch = record.batch + 1
        progress.items += size
        for state in ItemState:
            progress.states[state] += states.count(state)

    def _put_start(self, progress: _Progress, batch: int, start: StartRecord, after: bytes) -> None:
        sequence, size = progress.record.sequence, progress.record.size(batch)
        states = b"" if progress.record.deleted else after
        good, bad = states.count(ItemState.SUCCEEDED), states.count(ItemState.FAILED)
        self._put(
            "starts", sequence, batch, start.start_no, start.attempt,
            packed(start.offsets), len(after), good, bad,
            len(states) - good - bad, start.at, start.gap, start.wire_gap, start.required,
            start.ended_at,
        )  # fmt: skip
        if start.ended_at is not None:
            progress.last_end = max(progress.last_end or 0, start.ended_at)
        if start.outcomes is not None:
            final = pack_offsets(list(chosen(start.final, size)))
            row = (
                sequence,
                batch,
                start.start_no,
                to_optional_datetime(start.ended_at),
                final,
                start.outcomes,
            )
            self._put("outcomes", *row, size=len(start.outcomes))

    def _add_key(self, of: KeyRecord) -> None:
        digest = bytes.fromhex(of.digest)
        self._put(
            "keys", of.owner, of.key, digest, of.ingestion_id, to_optional_datetime(of.created_at)
        )

    def _add_mark(self, of: MarkRecord) -> None:
        before, after = Jsonb(of.before), Jsonb(of.after)
        who = of.key, of.target, of.request_id
        self._put("marks", to_datetime(of.at), of.kind, before, after, *who)

    def _add_minute(self, record: MinuteRecord) -> None:
        self._put("minutes", record.minute, Jsonb(dict(record.counts)))
        if record.depth is not None:
            depth = [[record.depth.get(name, 0) for name in names] for names in _DEPTHS]
            self._put("depths", record.minute, *depth)

    def _add_totals(self, record: TotalsRecord) -> None:
        self._tx.run("set_totals", counts=Jsonb(dict(record.counts)))

    def _add_queue(self, record: QueueRecord) -> None:
        last, until = record.last_slot_at, record.held_until
        self._tx.run(
            "set_queue",
            slots=record.slots,
            last_at=None if last is None else last / 1e6,
            paused=record.paused,
            interval=record.interval,
            configured=record.configured_interval,
            held_until=None if until is None else until / 1e6,
        )


#: What waits in each class, as the columns of `depth_at` have it.
_DEPTHS = tuple(zip(*(both("depth", priority) for priority in Priority), strict=True))


def _of_lost(record: BatchRecord) -> RetryRecord | None:
    """Return what sends a batch again whose last start has no end."""
    if not crashes_of(record):
        return None
    last = record.starts[-1]
    return RetryRecord(last.start_no + 1, last.attempt, last.offsets, None)


def _copy(connection: Connection, table: str, rows: list[tuple[Any, ...]]) -> None:
    with connection.cursor() as cursor, cursor.copy(SQL[f"copy_{table}"]) as copy:
        for row in rows:
            copy.write_row(row)
