"""Changes as statements: prepared by whoever makes them, run by the thread that writes."""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ingest_service import json_text
from ingest_service.domain.ingestion import Submission
from ingest_service.domain.model import Batch, ItemState, states_of
from ingest_service.engines.audit import Mark
from ingest_service.engines.chunks import Chunk, content_chunks, state_chunks
from ingest_service.engines.embedded.journal import (
    Cancelled,
    Change,
    Counted,
    Deleted,
    Finished,
    Moved,
    OperatorChanged,
    Reopened,
    Sent,
    Settled,
    Started,
)
from ingest_service.engines.embedded.journals.rows import operator_to_json
from ingest_service.engines.micros import to_micros
from ingest_service.engines.offsets import pack_offsets
from ingest_service.engines.outcomes import final_outcomes


class Statement(NamedTuple):
    """The name of a statement, and what it is run with."""

    name: str
    values: Mapping[str, Any]


def statements_of(changes: Iterable[Change]) -> list[Statement]:
    """Return what writes `changes`, in their order."""
    return [statement for change in changes for statement in _STATEMENTS[type(change)](change)]


def submitted(submission: Submission) -> list[Statement]:
    """Return what records a submission: a row, and its items in compact pieces."""
    head = {
        "sequence": submission.sequence,
        "ingestion_id": submission.ingestion_id,
        "kind": submission.kind.value,
        "priority": int(submission.priority),
        "batch_size": submission.batch_size,
        "created_at": to_micros(submission.created_at),
        "total": len(submission.items),
        "submitted_by": submission.submitted_by,
        "request_id": submission.request_id,
    }
    chunks = content_chunks(submission.items)
    return [
        Statement("add_ingestion", head),
        *(_chunk("add_content", submission.sequence, chunk) for chunk in chunks),
    ]


def _started(change: Started) -> Iterator[Statement]:
    at = to_micros(change.instant.at)
    yield Statement(
        "add_start",
        {
            **_name(change.batch),
            "attempt": change.batch.attempt,
            "at": at,
            "offsets": pack_offsets(change.batch.offsets),
            "gap": change.gap,
            "required": change.required,
        },
    )
    yield Statement("note_started", {"at": at, "sequence": change.batch.sequence})
    slot = change.instant._asdict() | {"at": at, "slots": change.slots}
    yield Statement("note_slot", slot)


def _sent(change: Sent) -> Iterator[Statement]:
    at = to_micros(change.instant.at)
    yield Statement("note_sent", {**_name(change.batch), "at": at, "gap": change.gap})
    yield Statement("count_on_from", change.instant._asdict() | {"at": at})


def _settled(change: Settled) -> Iterator[Statement]:
    final, outcomes = final_outcomes(change.batch, change.outcomes)
    resend, resend_at = change.resend, change.resend_at
    offsets = array("H", final).tobytes()
    if final:
        result = {"offsets": offsets, "outcomes": outcomes}
        yield Statement("add_result", {**_name(change.batch), **result})
    yield Statement(
        "settle_start",
        {
            **_name(change.batch),
            "at": to_micros(change.at),
            "item_states": states_of(change.outcomes),
            "offsets": offsets,
            "resend_at": None if resend_at is None else to_micros(resend_at),
            "resend_as": None if resend is None else resend.attempt,
        },
    )


def _finished(change: Finished) -> Iterator[Statement]:
    yield Statement(
        "finish",
        {
            "sequence": change.sequence,
            "at": to_micros(change.at),
            "status": change.counts.status.value,
            "succeeded": change.counts.succeeded,
            "failed": change.counts.failed,
            "cancelled": change.counts.cancelled,
        },
    )
    for chunk in state_chunks(change.item_states):
        yield _chunk("add_states", change.sequence, chunk)


def _cancelled(change: Cancelled) -> Iterator[Statement]:
    # Which items that is, follows from the starts.
    yield Statement("cancel", {"sequence": change.sequence, "at": to_micros(change.at)})


def _moved(change: Moved) -> Iterator[Statement]:
    yield Statement("move", {"sequence": change.sequence, "priority": int(change.priority)})


def _reopened(change: Reopened) -> Iterator[Statement]:
    yield Statement("reopen", {"sequence": change.sequence})
    yield Statement("forget_states", {"sequence": change.sequence})
    for resend in change.failed:
        yield Statement(
            "add_decision",
            {
                "sequence": change.sequence,
                "batch": resend.index,
                "start_no": resend.start_no - 1,
                "at": to_micros(change.at),
                "offsets": array("H", resend.offsets).tobytes(),
                "item_states": bytes([ItemState.RETRYING]) * len(resend.offsets),
                "resend_as": resend.attempt,
            },
        )


def _deleted(change: Deleted) -> Iterator[Statement]:
    of_it = {"sequence": change.sequence}
    yield Statement("erase", {})
    yield Statement("delete_results", of_it)
    yield Statement("delete_starts", of_it)
    yield Statement("forget_content", of_it)
    yield Statement("forget_states", of_it)
    yield Statement("delete_key", {"ingestion_id": change.ingestion_id})
    yield Statement("delete_ingestion", of_it)
    yield Statement("erase_no_more", {})


def _operator_changed(change: OperatorChanged) -> Iterator[Statement]:
    yield Statement("change_operator", {"state": operator_to_json(change.state)})


def _marked(change: Mark) -> Iterator[Statement]:
    yield Statement(
        "add_mark",
        {
            "at": to_micros(change.at),
            "kind": change.kind.value,
            "before": json_text.dumps(change.before),
            "after": json_text.dumps(change.after),
            "key": change.key,
            "target": change.target,
            "request_id": change.request_id,
        },
    )


def _name(batch: Batch) -> dict[str, int]:
    return {"sequence": batch.sequence, "batch": batch.index, "start_no": batch.start_no}


def _chunk(name: str, sequence: int, chunk: Chunk) -> Statement:
    return Statement(name, {"sequence": sequence, **chunk._asdict()})


_STATEMENTS: Mapping[type[Change], Callable[[Any], Iterable[Statement]]] = {
    Started: _started,
    Sent: _sent,
    Settled: _settled,
    Finished: _finished,
    Cancelled: _cancelled,
    Moved: _moved,
    Reopened: _reopened,
    Deleted: _deleted,
    OperatorChanged: _operator_changed,
    Mark: _marked,
    # Put together for the whole transaction, see `RollupWriter`.
    Counted: lambda _: (),
}
