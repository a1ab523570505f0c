"""A machine out of threads or descriptors, and calls that never return."""

import math
import threading
from typing import Any

import pytest

from ingest_service.domain.model import Batch, Outcome
from ingest_service.upstreams.pool import Pool
from ingest_service.upstreams.shortage import shortage
from ingest_service.upstreams.threaded import GRACE
from tests.descriptors import no_descriptors
from tests.realtime import GUARD, Scripted, eventually
from tests.upstreams.calls import CLOCK, Started, batch_of, items_at, upstream_of
from tests.upstreams.replies import OK


def fine(batch: Batch) -> list[Outcome]:
    """Succeed."""
    return [Outcome(succeeded=True)] * len(batch.items)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_process_out_of_descriptors_loses_no_attempt_and_says_so(host: str) -> None:
    """Until it has some again; a look-up that fails for that reason is no unknown host."""
    with Scripted(lambda _: OK) as server:
        upstream = items_at(f"http://{host}:{server.port}/{{id}}")
        with no_descriptors():
            outcomes = Started(upstream, batch_of(1, 2)).finish()
        trouble = upstream.trouble()
        later = Started(upstream, batch_of(1, 2)).finish()

    assert all(outcome.transient and outcome.unsent for outcome in outcomes), outcomes
    assert "No file descriptor is left" in str(outcomes[0].error)
    assert trouble == outcomes[0].error
    assert all(outcome.succeeded for outcome in later)
    assert upstream.trouble() is None


def test_a_machine_that_cannot_start_threads_loses_no_attempt_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until it can."""
    upstream = upstream_of(fine)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        outcomes = Started(upstream, batch_of(1, 2)).finish()
        trouble = upstream.trouble()
    later = Started(upstream, batch_of(1)).finish()

    assert [(outcome.transient, outcome.unsent) for outcome in outcomes] == [(True, True)] * 2
    assert trouble == outcomes[0].error
    assert "cannot start another thread" in str(trouble)
    assert later[0].succeeded
    assert upstream.trouble() is None


def refuse(_: threading.Thread) -> None:
    """Be a machine without room for a thread."""
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), OSError(24, "EMFILE")])
def test_a_connector_that_lacks_something_is_not_at_fault(error: Exception) -> None:
    """Nor are its items."""

    def connector(batch: Batch) -> Any:
        raise error

    (outcome,) = Started(upstream_of(connector), batch_of(1)).finish()
    assert (outcome.succeeded, outcome.transient, outcome.unsent) == (False, True, True)


def test_a_thread_that_ends_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has ended it."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    pool, done = Pool(1), threading.Event()

    def crash() -> None:
        raise KeyError

    assert pool.submit([crash], math.inf)
    eventually("it has ended", lambda: pool.overdue(math.inf) == 0)
    eventually("another one runs", lambda: pool.submit([done.set], math.inf) and done.wait(0.1))


def test_what_was_lacking_is_found_behind_other_errors() -> None:
    """Libraries wrap what they raise."""
    wrapped = ValueError("library")
    wrapped.__cause__ = OSError(24, "Too many open files")

    assert shortage(wrapped) is not None
    assert shortage(OSError(111, "Connection refused")) is None
    assert shortage(RuntimeError("another")) is None


def test_calls_that_do_not_return_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A little after they were given up; when all threads are lost nothing is sent."""
    called, release = threading.Semaphore(0), threading.Event()

    def connector(batch: Batch) -> Any:
        called.release()
        release.wait(GUARD)

    upstream = upstream_of(connector, 0.5)
    first = Started(upstream, batch_of(1)).finish()
    assert upstream.trouble() is None
    monkeypatch.setattr(CLOCK, "ahead", GRACE + 0.1)
    assert "have not returned: 1; at 6 nothing more is sent" in str(upstream.trouble())

    called.acquire(timeout=GUARD)
    for number in range(2, 7):
        Started(upstream, batch_of(number))
        assert called.acquire(timeout=GUARD)
    refused = Started(upstream, batch_of(7)).finish()
    release.set()
    eventually("they are back", lambda: upstream.trouble() is None)

    assert (first[0].transient, first[0].unsent) == (True, False)
    assert (refused[0].transient, refused[0].unsent) == (True, True)
