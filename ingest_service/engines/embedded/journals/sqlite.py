"""The journal in a SQLite file: what it has answered survives `kill -9` and power cuts."""

import os
from array import array
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, cast

import apsw

from ingest_service.domain.model import FAMILIES, Batch, Ingestion, ItemState, Priority, Resend
from ingest_service.engines.embedded.journal import (
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
from ingest_service.engines.embedded.journals.database import SQL, Database
from ingest_service.engines.embedded.journals.recovery import recover
from ingest_service.engines.embedded.journals.rows import (
    Row,
    pack,
    runs,
    to_datetime,
    to_ingestion,
    to_micros,
    to_summary,
    unpack,
)
from ingest_service.errors import IdempotencyMismatch


class SqliteJournal:
    """See `Journal`; raises `JournalUnusable` if the file cannot be opened."""

    def __init__(self, path: str | os.PathLike[str], vfs: str | None = None) -> None:
        self._db = Database(path, vfs)

    def recover(self) -> Recovered:
        """Read everything unfinished, once."""
        return self._db.once(recover)

    def accepted(self, ingestion: Ingestion, key: IdempotencyKey | None) -> str:
        """Record the ingestion as a row, its items as a compact blob, and its key."""
        content = ingestion.items.to_bytes()

        def write(db: apsw.Connection) -> str:
            if key is not None:
                stored = _claim(db, key, ingestion.ingestion_id, ingestion.created_at)
                if stored != ingestion.ingestion_id:
                    return stored
            db.execute(
                SQL["add_ingestion"],
                {
                    "sequence": ingestion.sequence,
                    "ingestion_id": ingestion.ingestion_id,
                    "kind": ingestion.items.kind.value,
                    "priority": int(ingestion.priority),
                    "batch_size": ingestion.batch_size,
                    "created_at": to_micros(ingestion.created_at),
                    "total": len(ingestion.items),
                },
            )
            db.execute(SQL["add_content"], {"sequence": ingestion.sequence, "items": content})
            return ingestion.ingestion_id

        def undo(db: apsw.Connection) -> None:
            refused = {"ingestion_id": ingestion.ingestion_id, "sequence": ingestion.sequence}
            db.execute(SQL["forget_content"], refused)
            db.execute(SQL["forget_ingestion"], refused)
            if key is not None:
                db.execute(SQL["release_key"], refused | {"key": key.key})

        return self._db.write(write, undo)

    def known(self, key: IdempotencyKey, at: datetime) -> str | None:
        """Look the key up."""
        before = to_micros(at - KEY_LIFETIME)
        return _match(self._db.read("find_key", key=key.key, before=before), key)

    def slot_taken(self, batch: Batch, instant: Instant) -> None:
        """Record the start and the slot in one transaction."""
        at = to_micros(instant.at)
        start = _key(batch) | {
            "attempt": batch.attempt,
            "at": at,
            "places": pack(batch.offsets),
            "gap": instant.gap,
            "required": instant.required,
        }

        def write(db: apsw.Connection) -> None:
            db.execute(SQL["add_start"], start)
            db.execute(SQL["note_started"], {"at": at, "sequence": batch.sequence})
            db.execute(
                SQL["note_slot"],
                {"at": at, "monotonic": instant.monotonic, "boot_id": instant.boot_id},
            )

        self._db.write(write)

    def settled(self, batch: Batch, settled: Settled) -> None:
        """Complete the record of the start."""
        final, outcomes = final_outcomes(batch, settled)
        end = _key(batch) | {
            "at": to_micros(settled.at),
            "item_states": bytes(each.state for each in settled.outcomes),
            "final": array("H", final).tobytes(),
            "outcomes": outcomes,
            "again_at": settled.again_at and to_micros(settled.again_at),
            "again_as": settled.again and settled.again.attempt,
        }
        sent = settled.sent._asdict() if settled.sent else None

        def write(db: apsw.Connection) -> None:
            db.execute(SQL["settle_start"], end)
            if sent is not None:
                db.execute(SQL["note_sent"], sent)

        self._db.write(write)

    def finished(self, ingestion: Ingestion) -> None:
        """Record the end with the states of all items, so that nobody has to add them up again."""
        end = {
            "at": to_micros(cast(datetime, ingestion.finished_at)),
            "item_states": bytes(ingestion.item_states),
            "status": ingestion.counts.status.value,
            "succeeded": ingestion.counts.succeeded,
            "failed": ingestion.counts.failed,
            "cancelled": ingestion.counts.cancelled,
            "sequence": ingestion.sequence,
        }
        self._db.run("finish", end)

    def cancelled(self, ingestion: Ingestion, at: datetime) -> None:
        """Note it beside the ingestion; which items that is, follows from the starts."""
        values = {"at": to_micros(at), "sequence": ingestion.sequence}
        self._db.run("cancel", values)

    def moved(self, ingestion: Ingestion, priority: Priority) -> None:
        """Change the class."""
        values = {"priority": int(priority), "sequence": ingestion.sequence}
        self._db.run("move", values)

    def rounds(self, ingestion_id: str) -> dict[int, int]:
        """Look up the last start of each batch."""
        return dict(cast(list[tuple[int, int]], self._db.read("rounds", ingestion_id=ingestion_id)))

    def reopened(self, ingestion: Ingestion, failed: Sequence[Resend], at: datetime) -> None:
        """Undo the end, and add a row for each batch that asks for another attempt."""
        decisions = [
            {
                "sequence": ingestion.sequence,
                "batch": again.index,
                "round": again.start_no - 1,
                "at": to_micros(at),
                "places": array("H", again.offsets).tobytes(),
                "item_states": bytes([ItemState.RETRYING]) * len(again.offsets),
                "again_as": again.attempt,
            }
            for again in failed
        ]

        def write(db: apsw.Connection) -> None:
            db.execute(SQL["reopen"], {"sequence": ingestion.sequence})
            db.executemany(SQL["add_decision"], decisions)

        self._db.write(write)

    def remember(self, name: str, value: str) -> None:
        """Replace the row."""
        self._db.run("remember", {"name": name, "value": value})

    def results(self, ingestion_id: str, indices: Iterable[int]) -> Results:
        """Read run by run of `indices`: what lies between them can be a million results."""
        found: Results = {}
        for first, last in runs(indices):
            rows = self._db.read("results", ingestion_id=ingestion_id, first=first, last=last)
            for index, final, at, text in rows:
                for place, outcome in zip(unpack(final, 0), decode_outcomes(text), strict=True):
                    found[index, place] = ItemResult(to_datetime(at), outcome)
        return found

    def summaries(self, wanted: Wanted) -> list[Summary]:
        """Read the rows from the newest on."""
        rows = self._db.read(
            "summaries",
            before=wanted.before,
            limit=wanted.limit,
            shown=wanted.word and _that_show(wanted.word),
            outcome=wanted.outcome and wanted.outcome.value,
            priority=wanted.priority and int(wanted.priority),
            finished_since=to_micros(wanted.finished_since),
        )
        return [to_summary(row) for row in rows]

    def rate_proof(self, since: datetime, until: datetime) -> RateProof:
        """Read the starts of the period."""
        period = {
            "since": to_micros(since),
            "until": to_micros(until),
            "tolerance": GAP_TOLERANCE,
        }
        ((starts, smallest, violations),) = self._db.read("rate", **period)
        early = self._db.read("early_starts", limit=EXAMPLES, **period) if violations else []
        examples = [Start(to_datetime(at), *rest) for at, *rest in early]
        return RateProof(starts, smallest, violations, examples)

    def find(self, ingestion_id: str) -> Ingestion | None:
        """Read a finished ingestion."""
        rows = self._db.read("find_finished", ingestion_id=ingestion_id)
        for *head, finished_at, cancelled_at, item_states in rows:
            ingestion = to_ingestion(head, bytearray(item_states))
            ingestion.cancelled = cancelled_at is not None
            ingestion.finished_at = to_datetime(finished_at)
            ingestion.next_batch = ingestion.batches_total
            ingestion.recount()
            ingestion.recorded = True
            return ingestion
        return None

    def prune(self, finished_before: datetime) -> int:
        """Forget up to 20 ingestions, or 2,000 starts of one: short enough not to be noticed."""
        before = to_micros(finished_before)

        def write(db: apsw.Connection) -> int:
            gone = 0
            for (sequence,) in db.execute(SQL["oldest_finished"], {"before": before}).fetchall():
                db.execute(SQL["forget_starts"], {"sequence": sequence})
                if db.changes() == 2000:
                    return gone + 1
                db.execute(SQL["forget_content"], {"sequence": sequence})
                db.execute(SQL["forget_ingestion"], {"sequence": sequence})
                gone += 1
            return gone

        return self._db.write(write) if self._db.read("oldest_finished", before=before) else 0

    def check(self) -> None:
        """Write something."""
        self._db.run("probe")

    def close(self) -> None:
        """Write what is left; the last connection moves the WAL into the file."""
        self._db.close()


def _claim(
    db: apsw.Connection, key: IdempotencyKey, ingestion_id: str, created_at: datetime
) -> str:
    """Return the ingestion that `key` stands for: `ingestion_id` if the key is new."""
    before = to_micros(created_at - KEY_LIFETIME)
    db.execute(SQL["forget_keys"], {"before": before})
    rows = db.execute(SQL["find_key"], {"key": key.key, "before": before}).fetchall()
    known = _match(rows, key)
    if known is not None:
        return known
    db.execute(
        SQL["add_key"],
        {
            "key": key.key,
            "digest": key.digest,
            "ingestion_id": ingestion_id,
            "created_at": to_micros(created_at),
        },
    )
    return ingestion_id


def _match(rows: Iterable[Row], key: IdempotencyKey) -> str | None:
    for digest, ingestion_id in rows:
        if digest != key.digest:
            raise IdempotencyMismatch
        return str(ingestion_id)
    return None


def _key(batch: Batch) -> dict[str, Any]:
    return {"sequence": batch.sequence, "batch": batch.index, "round": batch.start_no}


def _that_show(word: str) -> str:
    """Return the pairs of kind and status that clients see as `word`, each between blanks."""
    pairs = (
        f"{family.kind.value}/{status.value}"
        for family in FAMILIES.values()
        for status, shown in family.words.items()
        if shown == word
    )
    return f" {' '.join(pairs)} "
