"""What every Python connector has to keep to, as tests: subclass `ConnectorContract`.

    class TestWarehouse(ConnectorContract):
        connector = staticmethod(warehouse.send)
        succeeding = (1, 2, 3)
        failing = (404,)

and run pytest. `docs/connectors.md` has a complete example. Needs pytest.
"""

# ruff: noqa: S101 - these are tests
import copy
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

from ingest_service.domain.ids import fresh_id
from ingest_service.domain.items import Kind
from ingest_service.domain.model import Batch, Outcome, batch_ids
from ingest_service.upstreams.outcomes import encoded_size
from ingest_service.upstreams.protocol import idempotency_keys

#: How long a call may take before a test fails, in seconds.
GUARD = 30.0


class ConnectorContract:
    """The tests; the attributes say what to test, and with which items.

    Items are ids, or whole mappings if `kind` says so. What is not given is skipped.
    """

    #: The connector: wrap a function in `staticmethod`.
    connector: Callable[[Batch], Sequence[Outcome]]
    kind: Kind = Kind.IDS
    #: Two items or more that succeed, however often they are sent.
    succeeding: Sequence[Any] = ()
    #: Items that fail for good.
    failing: Sequence[Any] = ()
    #: Items that fail for now, each time they are sent.
    failing_for_now: Sequence[Any] = ()
    #: Items that nobody has ever heard of.
    unknown: Sequence[Any] = (1_000_000_007,)
    #: Whether an item that is sent again has the same data as the first time.
    repeatable: ClassVar[bool] = True

    def seen_keys(self) -> Sequence[str] | None:
        """Return the idempotency keys that have reached the other side, oldest first.

        Override it if the other side can tell.
        """
        return None

    def batch(self, items: Sequence[Any]) -> Batch:
        """Return a batch of its own that sends `items` for the first time."""
        ingestion_id = fresh_id()
        (batch_id,) = batch_ids(ingestion_id, [0])
        return Batch(
            ingestion_id=ingestion_id,
            sequence=1,
            batch_id=batch_id,
            kind=self.kind,
            index=0,
            start_no=1,
            attempt=1,
            offsets=range(len(items)),
            items=list(items),
        )

    def again(self, batch: Batch, offsets: Sequence[int]) -> Batch:
        """Return the second attempt at the items of `batch` at `offsets`."""
        return Batch(
            ingestion_id=batch.ingestion_id,
            sequence=batch.sequence,
            batch_id=batch.batch_id,
            kind=batch.kind,
            index=batch.index,
            start_no=batch.start_no + 1,
            attempt=batch.attempt + 1,
            offsets=list(offsets),
            items=[batch.items[offset] for offset in offsets],
        )

    def send(self, batch: Batch) -> Sequence[Outcome]:
        """Send `batch`; check what can be said of any answer."""
        items = copy.deepcopy(batch.items)
        outcomes = type(self).connector(batch)
        assert isinstance(outcomes, list | tuple), "the outcomes must be a list or a tuple"
        assert len(outcomes) == len(items), "there must be one outcome an item"
        assert batch.items == items, "the items of the batch must be left as they are"
        for outcome in outcomes:
            _check(outcome)
        return outcomes

    def test_every_item_that_should_succeed_does(self) -> None:
        """All in one batch."""
        outcomes = self.send(self.batch(_given(self.succeeding)))
        assert [outcome.succeeded for outcome in outcomes] == [True] * len(outcomes)

    def test_outcomes_come_in_the_order_of_the_items(self) -> None:
        """Sent together, backwards, or alone: the same item has the same data."""
        items = _given(self.succeeding)
        if not self.repeatable:
            pytest.skip("the data of an item differ from time to time")
        alone = [self.send(self.batch([item]))[0].processed_data for item in items]
        together = [outcome.processed_data for outcome in self.send(self.batch(items))]
        backwards = [outcome.processed_data for outcome in self.send(self.batch(items[::-1]))]

        assert together == alone
        assert backwards == alone[::-1]

    def test_what_is_left_of_a_batch_can_be_sent_alone(self) -> None:
        """`offsets` then is a list, and `attempt` more than 1."""
        batch = self.batch(_given(self.succeeding))
        self.send(batch)
        (outcome,) = self.send(self.again(batch, [len(batch.items) - 1]))
        assert outcome.succeeded

    def test_a_batch_that_is_sent_again_succeeds_again(self) -> None:
        """Nobody knows what became of a call that was cut off, so it is repeated."""
        batch = self.batch(_given(self.succeeding))
        first = self.send(batch)
        second = self.send(self.again(batch, range(len(batch.items))))

        assert [outcome.succeeded for outcome in second] == [outcome.succeeded for outcome in first]
        if self.repeatable:
            assert [outcome.processed_data for outcome in second] == [
                outcome.processed_data for outcome in first
            ]

    def test_items_that_fail_for_good_are_not_tried_again(self) -> None:
        """`transient` is not set, and `error` says in words what is wrong."""
        for outcome in self.send(self.batch(_given(self.failing))):
            assert not outcome.succeeded
            assert not outcome.transient
            assert outcome.error

    def test_items_that_fail_for_now_are_tried_again(self) -> None:
        """`transient` says so."""
        for outcome in self.send(self.batch(_given(self.failing_for_now))):
            assert not outcome.succeeded
            assert outcome.transient
            assert outcome.error

    def test_an_item_that_fails_leaves_its_neighbours_alone(self) -> None:
        """They succeed as if it were not there."""
        good, bad = _given(self.succeeding)[:2], [*self.failing, *self.failing_for_now]
        for item in _given(bad):
            outcomes = self.send(self.batch([good[0], item, good[-1]]))
            assert [outcome.succeeded for outcome in outcomes] == [True, False, True]

    def test_an_unknown_item_has_an_outcome(self) -> None:
        """Whichever; raising would fail the whole batch."""
        assert self.send(self.batch(_given(self.unknown)))

    def test_several_threads_can_send_at_a_time(self) -> None:
        """Each gets the outcomes of its own items."""
        items = _given(self.succeeding)
        together = threading.Barrier(8, timeout=GUARD)
        seen: dict[int, Sequence[Outcome]] = {}

        def send(number: int) -> None:
            turned = items[number % len(items) :] + items[: number % len(items)]
            together.wait()
            seen[number] = self.send(self.batch(turned))

        threads = [threading.Thread(target=send, args=[number], daemon=True) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(GUARD)

        assert len(seen) == len(threads), "a call raised, or did not return"
        data = [outcome.processed_data for outcome in seen[0]]
        for number, outcomes in seen.items():
            assert all(outcome.succeeded for outcome in outcomes)
            if self.repeatable:
                turn = number % len(items)
                assert [outcome.processed_data for outcome in outcomes] == data[turn:] + data[:turn]

    def test_the_other_side_sees_the_same_key_on_every_attempt(self) -> None:
        """And another one for every other item; see `idempotency_keys`."""
        before = self.seen_keys()
        if before is None:
            pytest.skip("`seen_keys` is not given")
        before, batch = list(before), self.batch(_given(self.succeeding))
        self.send(batch)
        first = list(self.seen_keys() or [])[len(before) :]
        self.send(self.again(batch, range(len(batch.items))))
        second = list(self.seen_keys() or [])[len(before) + len(first) :]

        assert first, "no key has reached the other side"
        assert sorted(first) == sorted(second)
        assert len(set(first)) == len(first)
        assert len(first) == 1 or sorted(first) == sorted(idempotency_keys(batch))


def _given(items: Sequence[Any]) -> list[Any]:
    if not items:
        pytest.skip("no such items are given")
    return list(items)


def _check(outcome: Outcome) -> None:
    assert isinstance(outcome, Outcome), f"{outcome!r} must be an Outcome"
    assert isinstance(outcome.succeeded, bool)
    assert isinstance(outcome.transient, bool)
    assert isinstance(outcome.unreachable, bool)
    assert isinstance(outcome.unsent, bool)
    assert outcome.error is None or isinstance(outcome.error, str)
    assert outcome.status_code is None or isinstance(outcome.status_code, int)
    if outcome.retry_after is not None:
        assert isinstance(outcome.retry_after, int | float)
        assert math.isfinite(outcome.retry_after)
        assert outcome.retry_after >= 0
    assert not (outcome.succeeded and (outcome.transient or outcome.unreachable))
    # Raises TypeError for what JSON cannot say.
    encoded_size(outcome)
