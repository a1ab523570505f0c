"""What is read from a file, none of it more than was asked for."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, cast

import apsw

from ingest_service.domain.ingestion import Ingestion, IngestionSnapshot
from ingest_service.domain.items import Kind
from ingest_service.domain.model import shown_as
from ingest_service.engines import EXAMPLES, GAP_TOLERANCE, ItemResult, RateProof, Start
from ingest_service.engines.audit import Action, AuditEntry, AuditQuery
from ingest_service.engines.chunks import Chunk, join_items, keys_of, states_of
from ingest_service.engines.embedded.journal import FinishedQuery, Results
from ingest_service.engines.embedded.journals.rows import (
    Row,
    runs,
    to_marked,
    to_snapshot,
    to_submission,
    to_submitted,
)
from ingest_service.engines.embedded.journals.statements import SQL
from ingest_service.engines.micros import to_datetime, to_micros, to_optional_datetime
from ingest_service.engines.offsets import unpack_offsets
from ingest_service.engines.outcomes import decode_outcomes


def find(db: apsw.Connection, ingestion_id: str, batches: range) -> IngestionSnapshot | None:
    """Return a finished ingestion with the items of `batches`."""
    head = _head(db, ingestion_id)
    if head is None or head[9] is None:
        return None
    snapshot = to_snapshot(head)
    span = _span(batches, snapshot.batch_size, snapshot.counts.total)
    return snapshot._replace(
        first_batch=batches.start,
        keys=keys_of(snapshot.kind, _chunks(db, "content", snapshot.sequence, span), span),
        states=states_of(_chunks(db, "final_states", snapshot.sequence, span), span),
    )


def load(db: apsw.Connection, ingestion_id: str) -> Ingestion | None:
    """Return a finished ingestion as a whole."""
    head = _head(db, ingestion_id)
    if head is None or head[9] is None:
        return None
    sequence, _, kind, *_ = head
    everything = range(head[10])
    items = join_items(Kind(kind), _chunks(db, "content", sequence, everything))
    submission = to_submission(head, items)
    states = states_of(_chunks(db, "final_states", sequence, everything), everything)
    return Ingestion(
        submission,
        submission.priority,
        started_at=to_optional_datetime(head[8]),
        finished_at=to_datetime(head[9]),
        next_batch=submission.batches_total,
        cancelled=head[13] > 0,
        item_states=bytearray(states),
    )


def item_states(db: apsw.Connection, ingestion_id: str) -> bytes:
    """Return the states of all items of a finished ingestion."""
    head = _head(db, ingestion_id)
    if head is None or head[9] is None:
        return b""
    everything = range(head[10])
    return states_of(_chunks(db, "final_states", head[0], everything), everything)


def keys(
    db: apsw.Connection, ingestion_id: str, indices: Iterable[int]
) -> dict[int, list[int | str]]:
    """Return what a client calls the items of the batches at `indices`."""
    head = _head(db, ingestion_id)
    if head is None:
        return {}
    sequence, _, kind, _, size, *_ = head
    total = head[10]
    by_index: dict[int, list[int | str]] = {}
    for run in runs(indices):
        span = _span(run, size, total)
        of_run: Sequence[int | str] = keys_of(
            Kind(kind), _chunks(db, "content", sequence, span), span
        )
        for index in run:
            if of_batch := list(of_run[(index - run.start) * size :][:size]):
                by_index[index] = of_batch
    return by_index


def results(db: apsw.Connection, ingestion_id: str, indices: Iterable[int]) -> Results:
    """Read run by run of `indices`: what lies between them can be a million results."""
    by_item: dict[tuple[int, int], ItemResult] = {}
    for run in runs(indices):
        values = {"ingestion_id": ingestion_id, "first": run.start, "last": run.stop - 1}
        for index, final, at, text in _rows(db, "results", **values):
            settled_at = to_datetime(at)
            offsets = unpack_offsets(final, 0)
            for offset, outcome in zip(offsets, decode_outcomes(text), strict=True):
                by_item[index, offset] = ItemResult(settled_at, outcome)
    return by_item


def start_counts(db: apsw.Connection, ingestion_id: str) -> dict[int, int]:
    """Return the number of the last start of each batch."""
    return dict(cast(list[tuple[int, int]], _rows(db, "start_counts", ingestion_id=ingestion_id)))


def finished(db: apsw.Connection, query: FinishedQuery) -> list[IngestionSnapshot]:
    """Read the rows from the newest on."""
    rows = _rows(
        db,
        "finished",
        before=query.before,
        limit=query.limit,
        finished_since=to_micros(query.finished_since),
        priority=None if query.priority is None else int(query.priority),
        shown=None if query.word is None else json.dumps(shown_as(query.word)),
        outcome=query.outcome,
        submitted_by=query.submitted_by,
    )
    return [to_snapshot(row) for row in rows]


def rate_proof(db: apsw.Connection, since: datetime, until: datetime) -> RateProof:
    """Read the starts of the period."""
    period = {"since": to_micros(since), "until": to_micros(until), "tolerance": GAP_TOLERANCE}
    ((starts, smallest, violations),) = _rows(db, "rate", **period)
    early = _rows(db, "early_starts", limit=EXAMPLES, **period) if violations else ()
    examples = [Start(to_datetime(at), *rest) for at, *rest in early]
    return RateProof(starts, smallest, violations, examples)


def audit(db: apsw.Connection, query: AuditQuery) -> list[AuditEntry]:
    """Merge the newest marks with the newest submissions."""
    kinds = json.dumps([action for action in query.actions if action is not Action.SUBMIT])
    values = query.before._asdict() | {
        "since": to_micros(query.since),
        "until": to_micros(query.until),
        "key": query.key,
        "limit": query.limit,
    }
    entries = [to_marked(row) for row in _rows(db, "audited_marks", kinds=kinds, **values)]
    if Action.SUBMIT in query.actions:
        entries += [to_submitted(row) for row in _rows(db, "audited_submissions", **values)]
    return sorted(entries, reverse=True, key=itemgetter(0))[: query.limit]


def oldest_mark(db: apsw.Connection) -> datetime | None:
    """Return when the oldest mark was made."""
    ((at,),) = _rows(db, "oldest_mark")
    return to_optional_datetime(at)


def oldest_finished(db: apsw.Connection) -> datetime | None:
    """Return when the oldest finished ingestion was finished."""
    ((at,),) = _rows(db, "oldest_finished")
    return to_optional_datetime(at)


def _head(db: apsw.Connection, ingestion_id: str) -> Row | None:
    return next(iter(_rows(db, "head", ingestion_id=ingestion_id)), None)


def _chunks(db: apsw.Connection, statement: str, sequence: int, span: range) -> list[Chunk]:
    """Return the pieces that hold the items at `span`."""
    if not span:
        return []
    rows = _rows(db, statement, sequence=sequence, start=span.start, end=span.stop)
    return [Chunk(*row) for row in rows]


def _span(batches: range, size: int, total: int) -> range:
    """Return the positions of the items of `batches`."""
    return range(min(batches.start * size, total), min(batches.stop * size, total))


def _rows(db: apsw.Connection, statement: str, **values: Any) -> list[Row]:
    return list(db.execute(SQL[statement], values))
