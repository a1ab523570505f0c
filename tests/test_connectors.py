"""The contract of connectors: its example, and that it notices what it should."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ingest_service.connector_contract import ConnectorContract
from ingest_service.domain.model import Batch, Outcome
from ingest_service.upstreams.protocol import idempotency_keys

ROOT = Path(__file__).parent.parent


def test_the_example_in_the_documentation_works_as_it_stands(tmp_path: Path) -> None:
    """Its connector passes its tests, and none of what is given is skipped."""
    text = (ROOT / "docs" / "connectors.md").read_text()
    connector, tests = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "warehouse.py").write_text(connector)
    (tmp_path / "test_warehouse.py").write_text(tests)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout
    assert "10 passed, 2 skipped" in ran.stdout


class Shelf:
    """The other side of a connector that keeps to the contract."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.lock = threading.Lock()

    def send(self, batch: Batch) -> list[Outcome]:
        """Fail 400 for good and 503 for now."""
        with self.lock:
            self.keys += idempotency_keys(batch)
        return [self.take(item) for item in batch.items]

    def take(self, item: int) -> Outcome:
        """Return what becomes of one item."""
        if item in (400, 503):
            return Outcome(False, error="no", transient=item == 503)
        return Outcome(True, {"id": item})


class TestShelf(ConnectorContract):
    """Everything is given, so nothing is skipped."""

    shelf = Shelf()
    connector = staticmethod(shelf.send)
    succeeding = (1, 2, 3)
    failing = (400,)
    failing_for_now = (503,)

    def seen_keys(self) -> Sequence[str]:
        """Return what the shelf has seen."""
        return self.shelf.keys


def broken(connector: Callable[[Batch], Any], keys: list[str] | None = None) -> ConnectorContract:
    """Return the contract for `connector`."""

    class Broken(ConnectorContract):
        succeeding, failing, failing_for_now = (1, 2, 3), (400,), (503,)

        def seen_keys(self) -> Sequence[str] | None:
            return keys

    Broken.connector = staticmethod(connector)
    return Broken()


SHELF = Shelf()


def all_of_it(change: Callable[[Batch, list[Outcome]], Any]) -> Callable[[Batch], Any]:
    """Return a connector that is sound but for `change`."""
    return lambda batch: change(batch, SHELF.send(batch))


def too_strict(batch: Batch, outcomes: list[Outcome]) -> list[Outcome]:
    """Fail everything because of one item."""
    return (
        outcomes
        if all(outcome.succeeded for outcome in outcomes)
        else [Outcome(False)] * len(outcomes)
    )


def forgetful(batch: Batch, outcomes: list[Outcome]) -> list[Outcome]:
    """Do not know the item the second time."""
    return outcomes if batch.attempt == 1 else [Outcome(False, error="again?")] * len(outcomes)


def greedy(batch: Batch, outcomes: list[Outcome]) -> list[Outcome]:
    """Take the items out of the batch."""
    assert isinstance(batch.items, list)
    batch.items.clear()
    return outcomes


SUCCEEDS = "every_item_that_should_succeed_does"
WRONG: dict[str, tuple[str, Callable[[Batch], Any]]] = {
    "too-few": (SUCCEEDS, all_of_it(lambda _, outcomes: outcomes[1:])),
    "iterator": (SUCCEEDS, all_of_it(lambda _, outcomes: iter(outcomes))),
    "failing": (SUCCEEDS, all_of_it(lambda _, outcomes: [Outcome(False)] * len(outcomes))),
    "no-json": (SUCCEEDS, all_of_it(lambda _, outcomes: [Outcome(True, {1})] * len(outcomes))),
    "no-outcome": (SUCCEEDS, all_of_it(lambda _, outcomes: [True] * len(outcomes))),
    "greedy": (SUCCEEDS, all_of_it(greedy)),
    "order": (
        "outcomes_come_in_the_order_of_the_items",
        all_of_it(lambda _, outcomes: outcomes[::-1]),
    ),
    "forgetful": ("a_batch_that_is_sent_again_succeeds_again", all_of_it(forgetful)),
    "forgetful-in-part": ("what_is_left_of_a_batch_can_be_sent_alone", all_of_it(forgetful)),
    "final": (
        "items_that_fail_for_good_are_not_tried_again",
        lambda _: [Outcome(False, error="no", transient=True)],
    ),
    "transient": (
        "items_that_fail_for_now_are_tried_again",
        lambda _: [Outcome(False, error="no")],
    ),
    "strict": ("an_item_that_fails_leaves_its_neighbours_alone", all_of_it(too_strict)),
    "unknown": ("an_unknown_item_has_an_outcome", lambda batch: {}[batch.items[0]]),
    "no-keys": (
        "the_other_side_sees_the_same_key_on_every_attempt",
        all_of_it(lambda _, outcomes: outcomes),
    ),
}


@pytest.mark.parametrize(("test", "connector"), WRONG.values(), ids=WRONG)
def test_the_contract_notices(test: str, connector: Callable[[Batch], Any]) -> None:
    """Each test fails for a connector that breaks what it is about."""
    with pytest.raises((AssertionError, TypeError, KeyError)):
        getattr(broken(connector, keys=[]), f"test_{test}")()


def test_the_contract_notices_keys_that_change() -> None:
    """From one attempt to the next."""
    keys: list[str] = []

    def connector(batch: Batch) -> list[Outcome]:
        keys.extend(f"{key}/{batch.attempt}" for key in idempotency_keys(batch))
        return SHELF.send(batch)

    with pytest.raises(AssertionError):
        broken(connector, keys).test_the_other_side_sees_the_same_key_on_every_attempt()


def test_the_contract_notices_threads_that_get_in_each_others_way() -> None:
    """A connector with a common scratch pad."""
    pad: list[Outcome] = []
    busy = threading.Lock()

    def connector(batch: Batch) -> list[Outcome]:
        if not busy.acquire(blocking=False):
            return [Outcome(False, error="busy")] * len(batch.items)
        threading.Event().wait(0.01)
        pad[:] = SHELF.send(batch)
        busy.release()
        return pad.copy()

    with pytest.raises(AssertionError):
        broken(connector).test_several_threads_can_send_at_a_time()
