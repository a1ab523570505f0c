"""What an earlier process left is added at once, and is as if it had been added one by one."""

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.app import build
from ingest_service.domain.ingestion import Ingestion, Submission
from ingest_service.domain.items import Ids
from ingest_service.domain.model import ItemState, Priority, Resend
from ingest_service.domain.pace import Pace
from ingest_service.engines.embedded import order_index
from ingest_service.engines.embedded.state import QueueState
from ingest_service.settings import Settings
from tests.engines.embedded.journals.support import NOW

#: (priority, items, batches that were started, whether the last of them is sent again, what
#: became of the items of the others, whether it was cancelled, whose it is).
left_behind = st.lists(
    st.tuples(
        st.sampled_from(Priority),
        st.integers(1, 9),
        st.integers(0, 3),
        st.booleans(),
        st.sampled_from((ItemState.SUCCEEDED, ItemState.FAILED, ItemState.RETRYING)),
        st.booleans(),
        st.sampled_from((None, "one", "other")),
    ),
    max_size=30,
)


def restored(sequence: int, row: tuple[Any, ...]) -> Ingestion:
    """Return an ingestion as recovery gives it."""
    priority, items, started, resent, became, cancelled, owner = row
    submission = Submission(
        f"id-{sequence}", sequence, priority, Ids(range(items)), 3, NOW, submitted_by=owner
    )
    ingestion = Ingestion.of(submission)
    ingestion.next_batch = min(started, submission.batches_total)
    for index in range(ingestion.next_batch):
        for position in submission.span(index):
            ingestion.item_states[position] = became
    if resent and ingestion.next_batch:
        span = submission.span(ingestion.next_batch - 1)
        ingestion.send_again([Resend(ingestion.next_batch - 1, 2, 1, range(len(span)))])
        for position in span:
            ingestion.item_states[position] = ItemState.RETRYING
    if cancelled:
        ingestion.cancel(NOW)
    ingestion.recount()
    ingestion.finished_at = NOW if ingestion.counts.status.final else None
    return ingestion


def picture(state: QueueState, sequences: range) -> list[Any]:
    """Return all that can be seen of a state, and the order in which it would serve."""
    seen: list[Any] = [
        state.unfinished(),
        state.waiting,
        state.queued_items,
        state.filled_at,
        state.index.totals(),
        state.index.front(),
        state.index.lines()(),
        state.next_forgotten(),
        [one.sequence for one in state.unfinished_before(sequences.stop, 100)],
        [(one := state.get(f"id-{sequence}")) and one.is_queued for sequence in sequences],
        [state.index.slots_until_room(items, items // 2) for items in range(0, 90, 7)],
    ]
    for owner in ("one", "other"):
        seen += [state.owned.waiting(owner)]
        seen += [state.slots_until_gone(owner, items) for items in range(1, 30, 4)]
    for priority in Priority:
        seen += [state.index.total(priority), state.index.ingestions_within(priority, 0, 5)]
        seen += [state.index.before(priority, sequence) for sequence in sequences]
        seen += [state.index.batches(priority, sequence) for sequence in sequences]
    while heads := state.ready.heads():
        seen.append([head.sequence for head in heads])
        state.ready.get(heads[0].priority)
    return seen


def filled(rows: list[tuple[Any, ...]], add: Callable[..., None]) -> list[Any]:
    """Return the picture of a state to which `add` has added what `rows` describe."""
    state = QueueState(Pace(5.0, 0.0), lambda: None)
    ingestions = [restored(sequence, row) for sequence, row in enumerate(rows, 1)]
    add(state, ingestions, [float(-one.sequence) for one in ingestions])
    return picture(state, range(1, len(rows) + 2))


def one_by_one(state: QueueState, ingestions: list[Ingestion], since: list[float]) -> None:
    """Add each as if it had just been accepted."""
    for ingestion, began in zip(ingestions, since, strict=True):
        state.add(ingestion, since=began, filled_at=7.0)


def at_once(state: QueueState, ingestions: list[Ingestion], since: list[float]) -> None:
    """Add all as a start does."""
    state.add_all(ingestions, since, 7.0)


@given(rows=left_behind)
def test_what_is_added_at_once_is_as_if_it_had_been_added_one_by_one(
    rows: list[tuple[Any, ...]],
) -> None:
    """Whatever had become of each, in blocks of a few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order_index, "_MOST", 4)
        assert filled(rows, at_once) == filled(rows, one_by_one)


def test_nothing_was_left_behind() -> None:
    """An empty start has an empty queue, which was never filled."""
    assert filled([], at_once) == filled([], one_by_one)


def test_one_that_waits_takes_at_most_one_and_a_half_kilobytes(tmp_path: Path) -> None:
    """A hundred thousand of one id may wait by default; as Python counts it."""
    count = 500
    parts = build(Settings(interval=3_600, journal=str(tmp_path / "journal")))
    try:
        accept = parts.service.submissions.accept
        accept(Ids([1]), Priority.LOW)
        gc.collect()
        tracemalloc.start()
        for number in range(count):
            accept(Ids([number]), Priority.LOW)
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    finally:
        parts.close(5)
    assert taken / count <= 1_500
