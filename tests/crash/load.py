"""Work for a journal under attack, and what has to be left of it afterwards."""

import itertools
import queue
import random
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import apsw

from ingest_service.domain.ingestion import Ingestion, Submission
from ingest_service.domain.items import Ids, Kind
from ingest_service.domain.model import Batch, Outcome, Priority, states_of
from ingest_service.engines import IdempotencyKey
from ingest_service.engines.chunks import Chunk, join_items
from ingest_service.engines.embedded.journal import Finished, Instant, Settled, Started
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.errors import StorageUnavailable

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class _Start(NamedTuple):
    sequence: int
    batch: int
    start_no: int


@dataclass
class Ledger:
    """What a journal was asked to keep, and what it has promised to keep."""

    #: By ingestion id, with the content.
    attempted: dict[str, bytes] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    #: Those for which `accept` raised.
    refused: set[str] = field(default_factory=set)
    started: set[_Start] = field(default_factory=set)
    settled: set[_Start] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    #: Monotonic instant of the last slot that was recorded.
    slot: float = 0.0
    sequences: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def accept(self, journal: SqliteJournal, size: int) -> Ingestion:
        """Have an ingestion of `size` ids accepted; note the answer."""
        asked = submission(next(self.sequences), size)
        ingestion_id, content = asked.ingestion_id, asked.items.to_bytes()
        self.attempted[ingestion_id] = content
        key = IdempotencyKey(ingestion_id, content[:32])
        seen: list[str] = []
        try:
            kept = journal.accept(asked, key, lambda: seen.append(ingestion_id)).result(60)
        except StorageUnavailable:
            assert seen == []
            self.refused.add(ingestion_id)
            raise
        assert [kept] == seen == [ingestion_id]
        self.acknowledged.add(ingestion_id)
        return Ingestion.of(asked)

    def work(self, journal: SqliteJournal, ingestion: Ingestion) -> None:
        """Start, settle and finish `ingestion`, as the worker does, batch by batch."""
        slots = itertools.count(1)
        while ingestion.batches_left:
            batch = ingestion.first_batch_left()
            ingestion.take(batch)
            slot = self.slot + 1
            journal.record(Started(batch, Instant(NOW, slot, "boot"), next(slots), None, 0.0))
            self.slot = slot
            self.started.add(_name(batch))
            outcomes = [Outcome(succeeded=True, processed_data=item) for item in batch.items]
            ingestion.settle(batch, states_of(outcomes), NOW)
            settled = Settled(batch, NOW, outcomes)
            journal.record(settled, *([_end(ingestion)] if ingestion.finished_at else []))
            self.settled.add(_name(batch))
        self.finished.add(ingestion.ingestion_id)

    def lost(self, path: Path) -> int:
        """Return how many promises the journal at `path` has broken."""
        db = apsw.Connection(str(path))
        contents = _contents(db)
        keys = dict(db.execute("SELECT key, ingestion_id FROM idempotency_key"))
        starts = {
            _Start(*name): result
            for *name, result in db.execute("SELECT sequence, batch, round, result FROM start")
        }
        finished = {each for (each,) in db.execute(_FINISHED)}
        slots = [float(each) for (each,) in db.execute("SELECT monotonic FROM pace")]
        db.close()
        broken: int = (
            sum(contents.get(each) != self.attempted[each] for each in self.acknowledged)
            + sum(keys.get(each) != each for each in self.acknowledged)
            + len(self.started - starts.keys())
            + sum(starts.get(each) is None for each in self.settled)
            + len(self.finished - finished)
            + (max(slots, default=0.0) < self.slot)
        )
        return broken

    def ghosts(self, path: Path) -> set[str]:
        """Return what is stored in the journal at `path` although it was refused."""
        db = apsw.Connection(str(path))
        stored = {each for (each,) in db.execute("SELECT ingestion_id FROM ingestion")}
        keys = {each for (each,) in db.execute("SELECT key FROM idempotency_key")}
        db.close()
        return self.refused & (stored | keys)


def submission(sequence: int, size: int = 4) -> Submission:
    """Return a request for `size` ids."""
    return Submission(
        ingestion_id=str(uuid.uuid4()),
        sequence=sequence,
        priority=Priority.MEDIUM,
        items=Ids(range(sequence % 1_000, sequence % 1_000 + size)),
        batch_size=3,
        created_at=NOW,
    )


_CONTENTS = (
    "SELECT ingestion_id, first_item, items, packing FROM ingestion JOIN content USING (sequence)"
    " ORDER BY sequence, first_item"
)
_FINISHED = (
    "SELECT ingestion_id FROM ingestion JOIN final_state USING (sequence) WHERE finished_at > 0"
)


def _contents(db: apsw.Connection) -> dict[str, bytes]:
    """Return the items that are stored, by ingestion id."""
    pieces: dict[str, list[Chunk]] = {}
    for ingestion_id, *chunk in db.execute(_CONTENTS):
        pieces.setdefault(str(ingestion_id), []).append(Chunk(*chunk))
    return {name: join_items(Kind.IDS, chunks).to_bytes() for name, chunks in pieces.items()}


def _end(ingestion: Ingestion) -> Finished:
    return Finished(
        ingestion.sequence,
        ingestion.ingestion_id,
        NOW,
        bytes(ingestion.item_states),
        ingestion.counts,
    )


def _name(batch: Batch) -> _Start:
    return _Start(batch.sequence, batch.index, batch.start_no)


def half_stored(path: Path) -> list[str]:
    """Return what is damaged or incomplete in the journal at `path`."""
    db = apsw.Connection(str(path))
    found = [str(text) for (text,) in db.execute("PRAGMA integrity_check") if text != "ok"]
    for statement in _INCOMPLETE:
        found += [f"{statement}: {row}" for row in db.execute(statement)]
    db.close()
    return found


_INCOMPLETE = (
    # Of what was deleted there is nothing left but the row and the starts.
    "SELECT sequence FROM ingestion LEFT JOIN content USING (sequence)"
    " WHERE (items IS NULL) != (deleted_at IS NOT NULL)",
    "SELECT sequence FROM content LEFT JOIN ingestion USING (sequence) WHERE kind IS NULL",
    "SELECT key FROM idempotency_key LEFT JOIN ingestion USING (ingestion_id) WHERE kind IS NULL",
    "SELECT sequence FROM start LEFT JOIN ingestion USING (sequence) WHERE kind IS NULL",
    "SELECT sequence FROM ingestion LEFT JOIN final_state USING (sequence)"
    " WHERE (finished_at IS NULL OR deleted_at IS NOT NULL) != (states IS NULL)",
    "SELECT sequence FROM start JOIN ingestion USING (sequence) LEFT JOIN result USING (result)"
    # An attempt 0 is only the decision to try again.
    " WHERE (settled_at IS NULL OR deleted_at IS NOT NULL) != (outcomes IS NULL) AND attempt > 0",
    "SELECT key FROM idempotency_key JOIN ingestion USING (ingestion_id)"
    " WHERE deleted_at IS NOT NULL",
    "SELECT result FROM result LEFT JOIN start USING (result) WHERE start.sequence IS NULL",
    "SELECT sequence FROM start JOIN ingestion USING (sequence) WHERE ingestion.started_at IS NULL",
    "SELECT sequence FROM final_state LEFT JOIN ingestion USING (sequence) WHERE kind IS NULL",
    # Every piece of what is kept in pieces.
    "SELECT sequence FROM ingestion JOIN content USING (sequence)"
    " WHERE kind = 'ids' GROUP BY sequence"
    " HAVING max(packing) = 0 AND sum(length(items)) != 4 * total",
    "SELECT sequence FROM ingestion JOIN final_state USING (sequence)"
    " GROUP BY sequence HAVING max(packing) = 0 AND sum(length(states)) != total",
)


def strain(journal: SqliteJournal, ledger: Ledger, seed: int) -> None:
    """Post from three threads and work in a fourth until all is done or the disk is gone."""
    chance = random.Random(seed)  # noqa: S311
    sizes = [[chance.choice((1, 2, 5, 7, 3_000, 30_000)) for _ in range(5)] for _ in range(3)]
    ready: queue.SimpleQueue[Ingestion | None] = queue.SimpleQueue()

    def post(sizes: list[int]) -> None:
        try:
            for size in sizes:
                ingestion = ledger.accept(journal, size)
                if size < 10:
                    ready.put(ingestion)
        finally:
            ready.put(None)

    def work() -> None:
        for _ in sizes:
            while (ingestion := ready.get()) is not None:
                ledger.work(journal, ingestion)

    with ThreadPoolExecutor(4) as threads:
        calls: list[Callable[[], None]] = [work, *(partial(post, each) for each in sizes)]
        for done in [threads.submit(_until_refused, call) for call in calls]:
            done.result()


def _until_refused(call: Callable[[], None]) -> None:
    with suppress(StorageUnavailable):
        call()
