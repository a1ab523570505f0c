"""The sums of the index against adding everything up again."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.engines.embedded import order_index
from ingest_service.engines.embedded.order_index import OrderIndex

Row = tuple[int, int, int]

changes = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 5), st.integers(1, 9), st.booleans()), max_size=150
)


def compare(index: OrderIndex[int], rows: dict[int, Row], at: int, batches: int) -> None:
    """Check every sum against a recount of `rows`, which are (batches, items, slots)."""
    ahead = [row for sequence, row in rows.items() if sequence < at]
    assert index.before(at) == (sum(r[0] > 0 for r in ahead), sum(r[0] for r in ahead))
    assert len(index) == len(rows)
    assert index.ready == sum(row[0] > 0 for row in rows.values())
    assert index.batches == sum(row[0] for row in rows.values())
    assert index.items == sum(row[1] for row in rows.values())
    assert index.batches_of(at) == rows.get(at, (0, 0, 0))[0]
    assert index.oldest() == min(rows, default=None)
    assert index.first(3) == [(s, rows[s][0]) for s in sorted(rows) if rows[s][0]][:3]
    assert [sequence for sequence, _ in index.walk()] == sorted(rows)
    assert index.entries_within(at, batches) == within(rows, at, batches)
    assert index.slots_of(batches) == slots_of(rows, batches)


def within(rows: dict[int, Row], after: int, batches: int) -> int:
    """Count to how many entries the next batches belong, by going through them."""
    counted = 0
    for sequence in sorted(rows):
        if sequence > after and batches > 0 and rows[sequence][0]:
            counted += 1
            batches -= rows[sequence][0]
    return counted


def slots_of(rows: dict[int, Row], items: int) -> tuple[int, int]:
    """Count after how many slots so many items are gone, by going through them."""
    slots = 0
    for sequence in sorted(rows):
        _, waiting, needed = rows[sequence]
        if items <= 0:
            break
        slots += needed if waiting <= items else -(-needed * items // waiting)
        items -= min(items, waiting)
    return slots, items


@given(changes=changes, at=st.integers(-1, 61), batches=st.integers(0, 40))
def test_the_sums_are_what_a_recount_gives(
    changes: list[tuple[int, int, int, bool]], at: int, batches: int
) -> None:
    """After any history of entries that come, change and go, in blocks of a few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order_index, "_MOST", 4)
        index, rows = OrderIndex[int](), dict[int, Row]()
        for sequence, left, items, removes in changes:
            if removes:
                index.remove(sequence)
                rows.pop(sequence, None)
            else:
                index.put(sequence, sequence, batches=left, items=items, slots=items)
                rows[sequence] = left, items, items
            compare(index, rows, at, batches)


def test_ten_thousand_entries_in_any_order_are_kept_in_blocks() -> None:
    """An old sequence can come back at any time."""
    chance, index = random.Random(7), OrderIndex[int]()  # noqa: S311
    rows: dict[int, Row] = {}
    for sequence in chance.sample(range(100_000), 10_000):
        rows[sequence] = chance.randrange(3), 1 + chance.randrange(9), 1
        batches, items, slots = rows[sequence]
        index.put(sequence, sequence, batches=batches, items=items, slots=slots)

    for at in chance.sample(range(100_000), 50):
        compare(index, rows, at, at // 10)


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(1, 3)), max_size=40),
    at=st.integers(-1, 81),
    batches=st.integers(0, 40),
)
def test_what_is_filled_in_at_once_counts_and_changes_like_anything_else(
    rows: list[Row], at: int, batches: int
) -> None:
    """A start fills it from columns; after that entries come and go as ever."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order_index, "_MOST", 4)
        index, by_sequence = OrderIndex[int](), dict(zip(range(0, 80, 2), rows, strict=False))
        sequences = list(by_sequence)
        columns = [[row[place] for row in rows] for place in range(3)]
        index.fill(sequences, sequences, batches=columns[0], items=columns[1], slots=columns[2])
        compare(index, by_sequence, at, batches)
        for sequence in range(0, len(rows), 3):
            index.put(sequence, sequence, batches=1, items=2, slots=1)
            by_sequence[sequence] = 1, 2, 1
        for sequence in sequences[::4]:
            index.remove(sequence)
            del by_sequence[sequence]
        compare(index, by_sequence, at, batches)
