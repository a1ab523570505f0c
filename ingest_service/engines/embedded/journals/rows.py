"""Rows of the tables, from and to what the rest of the service knows."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from dataclasses import fields as dataclass_fields
from datetime import datetime
from typing import Any

from ingest_service import json_text
from ingest_service.domain.ingestion import IngestionSnapshot, Submission
from ingest_service.domain.items import Items, Kind
from ingest_service.domain.model import Counts, Priority
from ingest_service.engines import Hold, OperatorState
from ingest_service.engines.audit import Action, AuditEntry, AuditPlace
from ingest_service.engines.embedded.journal import FINISHED_VERSION
from ingest_service.engines.micros import to_datetime, to_optional_datetime

Row = tuple[Any, ...]

#: By what is stored; looked up a hundred thousand times at a start.
KINDS = {kind.value: kind for kind in Kind}
PRIORITIES = {priority.value: priority for priority in Priority}


def to_snapshot(head: Row) -> IngestionSnapshot:
    """Return a finished ingestion without its items."""
    sequence, ingestion_id, kind, priority, batch_size, submitted_by, _, *rest = head
    *times, total, good, bad, given_up = rest
    created_at, started_at, finished_at = map(to_optional_datetime, times)
    assert created_at is not None  # noqa: S101 - narrows the type
    return IngestionSnapshot(
        ingestion_id=ingestion_id,
        sequence=sequence,
        kind=KINDS[kind],
        priority=PRIORITIES[priority],
        batch_size=batch_size,
        batches_total=-(-total // batch_size),
        created_at=created_at,
        started_at=started_at,
        finished_at=finished_at,
        counts=Counts(total, total - good - bad - given_up, 0, good, bad, given_up, 0),
        version=FINISHED_VERSION,
        submitted_by=submitted_by,
    )


def to_submission(head: Row, items: Items) -> Submission:
    """Return what was asked for."""
    sequence, ingestion_id, _, priority, size, submitted_by, request_id, created_at, *_ = head
    return Submission(
        ingestion_id=ingestion_id,
        sequence=sequence,
        priority=PRIORITIES[priority],
        items=items,
        batch_size=size,
        created_at=to_datetime(created_at),
        submitted_by=submitted_by,
        request_id=request_id,
    )


def to_marked(row: Row) -> AuditEntry:
    """Return what somebody did, out of its mark."""
    at, number, key, kind, target, before, after, request_id = row
    return AuditEntry(
        AuditPlace(at, 1, number),
        to_datetime(at),
        key,
        Action(kind),
        target,
        json_text.loads(before),
        json_text.loads(after),
        request_id,
    )


def to_submitted(row: Row) -> AuditEntry:
    """Return that something was submitted, out of what is kept of it."""
    at, sequence, key, ingestion_id, kind, items, request_id = row
    return AuditEntry(
        AuditPlace(at, 0, sequence),
        to_datetime(at),
        key,
        Action.SUBMIT,
        ingestion_id,
        None,
        {"kind": kind, "items": items},
        request_id,
    )


def operator_to_json(state: OperatorState) -> str:
    """Return what the operator wants as text."""
    return json.dumps(asdict(state), default=datetime.isoformat)


def operator_from_json(text: str) -> OperatorState:
    """Return what `operator_to_json` made `text` of; what a later version added is left out."""
    fields = json.loads(text)
    if fields.get("hold"):
        hold = _known_fields(Hold, fields["hold"])
        fields["hold"] = Hold(**hold | {"at": datetime.fromisoformat(hold["at"])})
    return OperatorState(**_known_fields(OperatorState, fields))


def _known_fields(kind: type[Hold] | type[OperatorState], fields: dict[str, Any]) -> dict[str, Any]:
    return {
        field.name: fields[field.name] for field in dataclass_fields(kind) if field.name in fields
    }


def runs(indices: Iterable[int]) -> list[range]:
    """Return `indices` as ranges of those that follow one another."""
    ranges: list[range] = []
    for index in sorted(indices):
        if ranges and index < ranges[-1].stop:
            continue
        if ranges and ranges[-1].stop == index:
            ranges[-1] = range(ranges[-1].start, index + 1)
        else:
            ranges.append(range(index, index + 1))
    return ranges
