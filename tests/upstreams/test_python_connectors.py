"""Connectors in Python, however badly they behave: raise, lie, never return."""

import copy
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from ingest_service.clock import SystemClock
from ingest_service.domain.model import Batch, Outcome
from ingest_service.errors import SettingsError
from ingest_service.upstreams.protocol import Connector, idempotency_keys
from ingest_service.upstreams.python import load_connector
from ingest_service.upstreams.threaded import ThreadedUpstream
from tests.realtime import GUARD, Service, eventually, running
from tests.upstreams.calls import Started, batch_of, upstream_of

Behaviour = Callable[[Batch], Any]


def fine(batch: Batch) -> list[Outcome]:
    """Succeed."""
    return [Outcome(succeeded=True, processed_data=item) for item in batch.items]


@contextmanager
def connected(
    connector: Connector,
    *,
    timeout: float = 5,
    at_a_time: int = 1,
    by_item: bool = False,
    **changes: Any,
) -> Iterator[Service]:
    """Run the service in front of `connector`."""
    upstream = ThreadedUpstream(
        SystemClock(), connector, timeout=timeout, at_a_time=at_a_time, by_item=by_item
    )
    with running(upstream, max_concurrent_batches=at_a_time, **changes) as service:
        yield service


def upstream_threads() -> int:
    """Return how many threads run connectors."""
    return sum(thread.name == "upstream" for thread in threading.enumerate())


def leave(batch: Batch) -> Any:
    """End the program, as it thinks."""
    sys.exit(3)


def explode(batch: Batch) -> Any:
    """Raise what nobody expects."""
    raise ZeroDivisionError


class Odd:
    """Cannot be written as JSON."""


def circle() -> list[Any]:
    """Return what contains itself."""
    ring: list[Any] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (explode, "crashed: ZeroDivisionError"),
        (leave, "crashed: SystemExit"),
        (lambda _: None, "crashed: TypeError"),
        (lambda _: 7, "crashed: TypeError"),
        (lambda batch: fine(batch)[1:], "crashed: TypeError"),
        (lambda batch: fine(batch) * 2, "crashed: TypeError"),
        (lambda batch: iter(fine(batch)), "crashed: TypeError"),
        (lambda batch: ["fine"] * len(batch.items), "crashed: TypeError"),
        (lambda batch: [Outcome(True, Odd())] * len(batch.items), "it is not JSON"),
        (lambda batch: [Outcome(True, circle())] * len(batch.items), "it is not JSON"),
        (lambda batch: [Outcome(True, {1: 2})] * len(batch.items), "it is not JSON"),
        (lambda batch: [Outcome(True, "\ud800")] * len(batch.items), "it is not JSON"),
        (lambda batch: [Outcome(False, error=cast(str, Odd()))] * len(batch.items), "not JSON"),
    ],
    ids=str.split(
        "raises exits none number too-few too-many iterator strings object circle int-key "
        "surrogate odd-error"
    ),
)
def test_a_connector_that_misbehaves_fails_its_batch_and_the_service_goes_on(
    behaviour: Behaviour, words: str
) -> None:
    """The next batch is sent as if nothing had happened."""
    behaviours = iter([behaviour, fine])

    def connector(batch: Batch) -> Any:
        return next(behaviours)(batch)

    with connected(connector) as service:
        bad = service.finish(service.send([1, 2, 3]))
        good = service.finish(service.send([4]))

    assert [(outcome.succeeded, outcome.attempts) for outcome in bad] == [(False, 1)] * 3
    assert all(words in str(outcome.error) for outcome in bad)
    assert good[0].processed_data == 4


def test_one_outcome_that_cannot_be_kept_does_not_spoil_the_others() -> None:
    """Each is looked at for itself."""
    with connected(lambda _: [Outcome(True, 1), Outcome(True, Odd()), Outcome(True, 3)]) as service:
        outcomes = service.finish(service.send([1, 2, 3]))

    assert [outcome.succeeded for outcome in outcomes] == [True, False, True]


@pytest.mark.parametrize(
    "hold",
    ["7", float("nan"), -5, None, Odd()],
    ids=lambda hold: type(hold).__name__ + str(hold)[:3],
)
def test_a_hold_that_is_none_holds_nothing(hold: Any) -> None:
    """The outcome counts all the same, and the worker does not stumble."""
    with connected(lambda _: [Outcome(True, 1, retry_after=hold)]) as service:
        assert service.finish(service.send([1]))[0].succeeded
        assert service.finish(service.send([2]))[0].succeeded


@pytest.mark.parametrize("by_item", [False, True])
def test_what_a_connector_does_to_its_batch_changes_nothing(by_item: bool) -> None:
    """It gets a copy, and outcomes are counted by what was sent."""

    def connector(batch: Batch) -> list[Outcome]:
        outcomes = [Outcome(True, copy.deepcopy(item)) for item in batch.items]
        for item in batch.items:
            if isinstance(item, dict):
                item.clear()
        for part in (batch.items, batch.offsets):
            if isinstance(part, list):
                part.clear()
        return outcomes

    with connected(connector, at_a_time=3, by_item=by_item) as service:
        ids = service.finish(service.send([1, 2, 3, 4]))
        mappings = service.finish(service.send_mappings("a", "b"))

    assert [outcome.processed_data for outcome in ids] == [1, 2, 3, 4]
    assert [outcome.processed_data["id"] for outcome in mappings] == ["a", "b"]


def test_a_connector_that_empties_what_is_sent_again_sees_it_whole() -> None:
    """The service holds the batch, not the connector."""
    sizes = []

    def connector(batch: Batch) -> list[Outcome]:
        assert isinstance(batch.items, list)
        sizes.append(len(batch.items))
        outcomes = [Outcome(False, error="later", transient=True) for _ in batch.items]
        batch.items.clear()
        return outcomes

    with connected(connector, max_attempts=3) as service:
        outcomes = service.finish(service.send([1, 2, 3]))

    assert sizes == [3, 3, 3]
    assert [outcome.attempts for outcome in outcomes] == [3, 3, 3]


def test_outcomes_that_a_connector_changes_later_are_those_it_returned() -> None:
    """Its list may be its own scratch pad."""
    pad: list[Outcome] = []

    def connector(batch: Batch) -> list[Outcome]:
        pad[:] = fine(batch)
        return pad

    upstream = upstream_of(connector)
    started = Started(upstream, batch_of(1, 2))
    started.finish()
    pad.clear()
    assert [outcome.processed_data for outcome in started.finish()] == [1, 2]


def test_what_has_succeeded_is_not_sent_again_whatever_else_is_claimed() -> None:
    """An item ends once."""
    sent = []

    def connector(batch: Batch) -> list[Outcome]:
        sent.append(batch)
        return [Outcome(True, 1, transient=True, unreachable=True)] * len(batch.items)

    with connected(connector) as service:
        outcomes = service.finish(service.send([1, 2, 3]))

    assert all(outcome.succeeded for outcome in outcomes)
    assert len(sent) == 1


def test_attempts_never_exceed_the_limit_and_only_what_failed_is_sent_again() -> None:
    """The last attempt makes the failure final."""
    sent: list[tuple[int, list[int], list[str]]] = []

    def connector(batch: Batch) -> list[Outcome]:
        sent.append((batch.attempt, list(batch.items), idempotency_keys(batch)))
        return [Outcome(item != 2, error="later", transient=item == 2) for item in batch.items]

    with connected(connector, max_attempts=3) as service:
        outcomes = service.finish(service.send([1, 2, 3]))
    keys = sent[0][2]

    assert sent == [(1, [1, 2, 3], keys), (2, [2], keys[1:2]), (3, [2], keys[1:2])]
    assert [outcome.attempts for outcome in outcomes] == [1, 3, 1]
    assert [outcome.succeeded for outcome in outcomes] == [True, False, True]


def test_a_connector_that_does_not_return_is_given_up_and_the_service_heals() -> None:
    """Threads are bounded; meanwhile no attempt is lost; it goes on when they come back."""
    before = upstream_threads()
    come_back = threading.Event()
    calls = []

    def connector(batch: Batch) -> list[Outcome]:
        calls.append(batch)
        if len(calls) <= 2:
            come_back.wait(GUARD)
        return fine(batch)

    with connected(connector, timeout=0.2, max_attempts=3) as service:
        ingestion_id = service.send([1, 2, 3, 4])
        worker = service.parts.worker
        eventually("nothing more is sent", lambda: worker.breaker.probes >= 3)
        lost, sent = upstream_threads() - before, len(calls)
        come_back.set()
        outcomes = service.finish(ingestion_id)

    assert (lost, sent) == (2, 2)
    assert all(outcome.succeeded for outcome in outcomes)
    assert max(outcome.attempts for outcome in outcomes) <= 3


def test_a_late_item_does_not_fail_its_neighbours() -> None:
    """What was answered in time counts."""
    come_back = threading.Event()

    def connector(batch: Batch) -> list[Outcome]:
        if batch.items == [2]:
            come_back.wait(GUARD)
        return fine(batch)

    with connected(connector, timeout=0.3, at_a_time=3, by_item=True, max_attempts=1) as service:
        outcomes = service.finish(service.send([1, 2, 3]))
        come_back.set()

    assert [outcome.succeeded for outcome in outcomes] == [True, False, True]
    assert "did not answer within 0.3 s" in str(outcomes[1].error)


def test_an_answer_that_comes_after_all_is_not_taken_for_another_one() -> None:
    """The item was given up; its second attempt decides."""
    come_back = threading.Event()

    def connector(batch: Batch) -> list[Outcome]:
        if batch.attempt == 1:
            come_back.wait(GUARD)
            return [Outcome(True, "late")]
        come_back.set()
        return [Outcome(True, "in time")]

    with connected(connector, timeout=0.2) as service:
        (outcome,) = service.finish(service.send([1]))

    assert (outcome.processed_data, outcome.attempts) == ("in time", 2)


def test_a_batch_larger_than_batches_are_now_is_still_sent() -> None:
    """It was cut before a restart, when the settings were others."""
    with connected(fine, at_a_time=2, by_item=True, batch_size_ids=20) as service:
        outcomes = service.finish(service.send(range(1, 41)))

    assert [outcome.processed_data for outcome in outcomes] == list(range(1, 41))


def test_a_machine_out_of_threads_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not the items' fault, so it costs no attempt; the next try finds threads again."""
    start = threading.Thread.start
    refusals = iter([True])

    def refuse_once(thread: threading.Thread) -> None:
        if thread.name == "upstream" and next(refusals, False):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_once)
    with connected(fine, max_attempts=1) as service:
        outcomes = [service.finish(service.send([n]))[0] for n in range(1, 5)]

    assert [outcome.attempts for outcome in outcomes if outcome.succeeded] == [1] * 4


def send(batch: Batch) -> Sequence[Outcome]:
    """Answer that this module was asked."""
    return [Outcome(succeeded=True, processed_data="python")] * len(batch.items)


def test_a_connector_is_found_by_its_name() -> None:
    """As `package.module:callable`, in the settings."""
    with running("tests.upstreams.test_python_connectors:send") as service:
        assert service.finish(service.send([1]))[0].processed_data == "python"


def test_a_connector_that_ends_the_process_when_it_is_imported_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the worker again and again."""
    (tmp_path / "leaving.py").write_text("raise SystemExit('no configuration')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SettingsError, match="no configuration"):
        load_connector("leaving:send")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.at_all:send", "cannot be imported: No module named"),
        (
            "tests.upstreams.test_python_connectors:sned",
            "cannot be imported: module .* has no attribute",
        ),
        ("tests.upstreams.test_python_connectors:GUARD", "it must name a callable"),
    ],
)
def test_a_connector_that_cannot_be_found_stops_the_start(name: str, words: str) -> None:
    """In one line."""
    with pytest.raises(SettingsError, match=words):
        load_connector(name)
