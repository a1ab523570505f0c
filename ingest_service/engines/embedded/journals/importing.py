"""A journal in a file, written as a whole out of what another one was moved by."""

import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw

from ingest_service import json_text
from ingest_service.domain.model import Counts, ItemState
from ingest_service.domain.rollup import add
from ingest_service.engines import Hold, OperatorState
from ingest_service.engines.chunks import content_chunks, state_chunks
from ingest_service.engines.embedded.journals.connections import transaction
from ingest_service.engines.embedded.journals.files import (
    put_in_place,
    sync,
    unusable,
    use_existing,
)
from ingest_service.engines.embedded.journals.formats import format_of, refuse_newer
from ingest_service.engines.embedded.journals.journal_file import JournalFile
from ingest_service.engines.embedded.journals.rollups import sum_up
from ingest_service.engines.embedded.journals.rows import operator_to_json
from ingest_service.engines.embedded.journals.schema import create
from ingest_service.engines.embedded.journals.statements import SQL, TRANSFER
from ingest_service.engines.micros import to_datetime
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
    RetryRecord,
    StartRecord,
    TotalsRecord,
)
from ingest_service.engines.transfer.rows import packed
from ingest_service.engines.transfer.states import after_starts, chosen, start_states, states_of
from ingest_service.errors import JournalUnusable

#: What is written between two looks at the same page; all of it is on the disk at the end.
_PRAGMAS = ("auto_vacuum = INCREMENTAL", "journal_mode = OFF", "synchronous = OFF")
#: The format in which marks came.
_WITH_MARKS = 3
_HOUR = 60


def import_into(path: str, reader: Reader) -> Summary:
    """Begin the journal at `path` with what `reader` reads.

    Refuse it while anything uses the journal, and if something was ever submitted to it.
    Wherever this is cut short, nothing is there, or everything: it is written beside the
    journal and takes its place at the end.
    """
    was_there = Path(path).exists()
    file = JournalFile(path)
    fresh = file.path.with_name(file.path.name + ".new")
    try:
        _refuse_filled(file.path)
        summary = _write(fresh, reader)
        put_in_place(file.path, fresh)
    except BaseException:
        fresh.unlink(missing_ok=True)
        if not was_there:
            file.path.unlink()
        raise
    finally:
        file.close()
    return summary


def _refuse_filled(path: Path) -> None:
    def look(db: apsw.Connection) -> bool:
        version = format_of(db)
        refuse_newer(version, path)
        looks = ["filled"] * (version > 0) + ["marked"] * (version >= _WITH_MARKS)
        return any(db.execute(TRANSFER[name]).fetchall() != [(0,)] for name in looks)

    if use_existing(str(path), look):
        raise JournalUnusable(
            f"{path}: is not empty; name a file that is not there yet with --journal."
        )


def _write(fresh: Path, reader: Reader) -> Summary:
    try:
        fresh.unlink(missing_ok=True)
        # SQLite takes an empty file as it is, with its permissions.
        os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        db = apsw.Connection(str(fresh), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            for pragma in _PRAGMAS:
                db.execute(f"PRAGMA {pragma}").fetchall()
            create(db)
            with transaction(db, "BEGIN"):
                summary = _Filling(db).fill(reader)
        finally:
            db.close(True)
        sync(fresh)
    except apsw.ConstraintError as error:
        raise JournalUnusable(
            f"{fresh}: cannot be filled ({error}); nothing was imported."
        ) from error
    except apsw.Error as error:
        raise unusable(fresh, error) from error
    except OSError as error:
        raise JournalUnusable(f"{fresh}: cannot be written ({error.strerror}).") from error
    return summary


class _Filling(Filling):
    """Writes records, in the order in which they were read."""

    def __init__(self, db: apsw.Connection) -> None:
        super().__init__()
        self._db = db
        self._ingestion: IngestionRecord | None = None
        #: Of a finished ingestion; what was never started was cancelled.
        self._states = bytearray()
        self._results = 0
        #: The minutes of the last hour, and what all minutes add up to.
        self._hour: list[MinuteRecord] = []
        self._counted: dict[str, int] = {}

    def _end_ingestion(self) -> None:
        ingestion, self._ingestion = self._ingestion, None
        if ingestion is None or ingestion.counts is None or ingestion.deleted:
            return
        for chunk in state_chunks(bytes(self._states)):
            place = ingestion.sequence << 32 | chunk.first_item
            self._run("add_states", place, chunk.content, chunk.packing)

    def _run(self, statement: str, *values: Any) -> None:
        self._db.execute(TRANSFER[statement], values)

    def _add_ingestion(self, of: IngestionRecord) -> None:
        self._ingestion = of
        counts, status = of.counts or (0, 0, 0), None
        if of.counts is not None:
            self._states = bytearray([ItemState.CANCELLED]) * of.total
            good, bad, given_up = of.counts
            status = Counts(of.total, of.total - sum(counts), 0, good, bad, given_up, 0).status
        # When exactly it was cancelled matters only until it is finished, to nobody.
        at = of.finished_at or of.started_at or of.created_at
        self._run(
            "add_ingestion", of.sequence, of.ingestion_id, of.kind, of.priority, of.batch_size,
            of.created_at, of.started_at, of.finished_at, of.total,
            status and status.value, *counts, at if of.cancelled else None, of.submitted_by,
            of.request_id, of.finished_at if of.deleted else None,
        )  # fmt: skip

    def _add_items(self, record: ItemsRecord) -> None:
        of = self._of(record)
        for chunk in content_chunks(record.items):
            place = of.sequence << 32 | record.first_item + chunk.first_item
            self._run("add_content", place, chunk.content, chunk.packing)

    def _of(self, record: ItemsRecord | BatchRecord) -> IngestionRecord:
        if self._ingestion is None:
            raise orphan(record)
        return self._ingestion

    def _add_batch(self, record: BatchRecord) -> None:
        of = self._of(record)
        size = of.size(record.batch)
        after = [start_states(start, size) for start in record.starts]
        if of.finished_at is not None:
            first = record.batch * of.batch_size
            self._states[first : first + size] = states_of(record, after, size)
            decision = None
        else:
            decision = _decision(record, after, size)
        last = record.starts[-1].start_no if record.starts else None
        for start, states in zip(record.starts, after, strict=True):
            again = record.retry if start.start_no == last and not decision else None
            self._add_start(of, record.batch, start, states, again)
        if decision is not None:
            sent = chosen(decision.offsets, size)
            due = decision.due or 0
            self._run(
                "add_start", of.sequence, record.batch, decision.start_no - 1, 0, due,
                array("H", sent).tobytes(), due, bytes([ItemState.RETRYING]) * len(sent), due,
                decision.attempt, None, None, None, None,
            )  # fmt: skip

    def _add_start(
        self,
        of: IngestionRecord,
        batch: int,
        start: StartRecord,
        states: bytes,
        again: RetryRecord | None,
    ) -> None:
        result = None
        if start.outcomes is not None:
            self._results += 1
            result = self._results
            final = array("H", chosen(start.final, of.size(batch))).tobytes()
            self._run("add_result", result, final, start.outcomes)
        has_states = start.ended_at is not None and not of.deleted
        self._run(
            "add_start", of.sequence, batch, start.start_no, start.attempt, start.at,
            packed(start.offsets), start.ended_at,
            states if has_states else None,
            again and (again.due or 0), again and again.attempt,
            start.gap, start.required, result, start.wire_gap,
        )  # fmt: skip

    def _add_key(self, record: KeyRecord) -> None:
        digest = bytes.fromhex(record.digest)
        values = record.owner, record.key, digest, record.ingestion_id, record.created_at
        self._run("add_key", *values)

    def _add_mark(self, record: MarkRecord) -> None:
        before, after = json_text.dumps(record.before), json_text.dumps(record.after)
        who = record.key, record.target, record.request_id
        self._run("add_mark", record.at, record.kind, before, after, *who)

    def _add_minute(self, record: MinuteRecord) -> None:
        if self._hour and self._hour[0].minute // _HOUR != record.minute // _HOUR:
            self._add_hour()
        self._hour.append(record)
        add(self._counted, record.counts)
        depth = None if record.depth is None else json_text.dumps(record.depth)
        self._run("add_minute", record.minute, json_text.dumps(record.counts), depth)

    def _add_hour(self) -> None:
        """Write what the minutes of an hour add up to, when another one has begun."""
        counts: dict[str, int] = {}
        for minute in self._hour:
            add(counts, minute.counts)
            sum_up(self._db, minute.minute, counts)
        hour, depth = self._hour[0].minute // _HOUR, self._hour[-1].depth or {}
        self._run("add_hour", hour, json_text.dumps(counts), json_text.dumps(depth))
        self._hour.clear()

    def _add_totals(self, record: TotalsRecord) -> None:
        """Write what was counted in minutes that are forgotten."""
        forgotten = dict(record.counts)
        add(forgotten, {name: -count for name, count in self._counted.items()})
        forgotten = {name: count for name, count in forgotten.items() if count}
        if forgotten:
            self._run("add_minute", 0, json_text.dumps(forgotten), None)

    def _add_queue(self, record: QueueRecord) -> None:
        if record.last_slot_at is not None:
            # Counted from a start of no machine: whoever goes on waits a whole interval.
            self._run("add_pace", record.last_slot_at, record.slots)
        # On the wall clock only, as above.
        until = record.held_until
        hold = None if until is None else Hold(to_datetime(until), 0.0, "")
        state = OperatorState(record.paused, record.interval, record.configured_interval, hold)
        if state != OperatorState():
            self._db.execute(SQL["change_operator"], {"state": operator_to_json(state)})


def _decision(record: BatchRecord, after: Sequence[bytes], size: int) -> RetryRecord | None:
    """Return what is sent again, or was going to be, without a start that asks for it."""
    last = record.starts[-1].start_no if record.starts else -1
    if record.retry is not None:
        return None if record.retry.start_no == last + 1 else record.retry
    states = after_starts(record, after, size)
    if any(states[offset] != ItemState.RETRYING for offset in record.cancelled):
        return RetryRecord(last + 2, 1, record.cancelled, None)
    return None
