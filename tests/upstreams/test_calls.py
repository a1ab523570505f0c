"""What a call tells the worker before it ends, and when."""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ingest_service.domain.model import Batch, Outcome
from ingest_service.upstreams import connections
from ingest_service.upstreams.protocol import FinishedCall
from ingest_service.upstreams.threaded import ThreadedUpstream
from tests.realtime import GUARD, Reply, Request, Scripted, answer, eventually, running
from tests.uncollected import alive, uncollected
from tests.upstreams.calls import CLOCK, Started, batch_of, items_at, upstream_of
from tests.upstreams.replies import OK

FINE = Outcome(succeeded=True)


def after(event: threading.Event, reply: bytes = OK) -> Callable[[socket.socket], bool]:
    """Answer once `event` is set."""

    def act(connection: socket.socket) -> bool:
        event.wait(GUARD)
        connection.sendall(reply)
        return True

    return act


@contextmanager
def slow_look_ups(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let every look-up of `slow.invalid` take until the event is set; it is this machine."""
    found_out, look_up = threading.Event(), socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **kwargs: Any) -> Any:
        if host == "slow.invalid":
            found_out.wait(GUARD)
            host = "127.0.0.1"
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield found_out
    found_out.set()


def test_what_an_answer_asks_for_is_known_while_its_batch_mates_are_under_way() -> None:
    """From its end on, once; the worker is told at once."""
    release = threading.Event()

    def reply(request: Request) -> Reply:
        asks = request.target == "/items/2"
        return answer(429, Retry_After="7") if asks else after(release)

    with Scripted(reply) as server:
        started = Started(items_at(server.items), batch_of(1, 2, 3))
        eventually("it asks", started.call.retry_after)
        seen_at = CLOCK.monotonic()
        early = started.call.retry_after()
        eventually("the news", lambda: started.news)
        assert not started.ended
        release.set()
        started.finish()

    ((came_at, seconds),) = early
    assert seconds == 7
    assert started.began < came_at <= seen_at
    assert started.call.retry_after() == early


def test_the_longest_wait_that_a_connector_asks_for_is_one_request() -> None:
    """An answer is one, however many outcomes it has."""
    outcomes = [Outcome(False, retry_after=seconds) for seconds in (3, float("nan"), 5)]
    started = Started(upstream_of(lambda _: outcomes), batch_of(1, 2, 3))
    started.finish()

    assert started.call.retry_after() == [(started.call.ended_at(), 5.0)]


def test_a_call_connects_until_its_last_request_is_on_the_wire(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker is told when that is so, although nothing is answered yet."""
    release = threading.Event()
    with slow_look_ups(monkeypatch) as looked_up, Scripted(lambda _: after(release)) as server:
        address = f"http://slow.invalid:{server.port}/{{id}}"
        started = Started(items_at(address), batch_of(1, 2))
        assert started.call.connecting()
        assert started.call.sent_at() == float("-inf")
        looked_up_at = CLOCK.monotonic()
        looked_up.set()
        eventually("the requests", lambda: len(server.requests) == 2)
        eventually("the news", lambda: started.news)
        assert not started.call.connecting()
        assert started.call.sent_at() > looked_up_at
        assert not started.ended
        release.set()
        assert all(outcome.succeeded for outcome in started.finish())
    eventually("news of the end", lambda: len(started.news) == 2)


def test_a_call_that_cannot_connect_is_not_connecting_any_more() -> None:
    """Its end is the news."""
    started = Started(items_at("http://127.0.0.1:1/{id}"), batch_of(1))
    (outcome,) = started.finish()

    assert outcome.unreachable
    assert not started.call.connecting()
    assert started.call.sent_at() == float("-inf")


def test_a_python_connector_has_sent_everything_once_it_is_called() -> None:
    """It cannot tell any better."""
    called, release = threading.Event(), threading.Event()

    def connector(batch: Batch) -> list[Outcome]:
        called.set()
        release.wait(GUARD)
        return [FINE]

    started = Started(upstream_of(connector), batch_of(1))
    called.wait(GUARD)
    assert not started.call.connecting()
    assert started.began <= started.call.sent_at() <= CLOCK.monotonic()
    assert len(started.news) == 1
    release.set()
    assert list(started.finish()) == [FINE]


def test_a_call_has_ended_when_its_last_part_has() -> None:
    """Not when somebody looks."""
    started = Started(upstream_of(lambda batch: [FINE], by_item=True), batch_of(1, 2, 3))
    started.finish()
    assert started.began < started.call.ended_at() <= CLOCK.monotonic()
    assert started.call.ended_at() <= started.news[-1]


def test_a_call_that_is_given_up_has_ended_at_its_deadline() -> None:
    """Whatever comes later."""
    release = threading.Event()

    def connector(batch: Batch) -> Any:
        release.wait(GUARD)

    started = Started(upstream_of(connector, 0.3), batch_of(1))
    (outcome,) = started.finish()
    assert started.call.ended_at() == started.call.ends_at()
    assert 0.3 <= started.call.ended_at() - started.began < 5
    assert (outcome.transient, outcome.unsent, outcome.unreachable) == (True, False, False)
    release.set()


def _nothing_holds(batch_id: str) -> None:
    """Return once a batch has been let go; threads that had it may be a little later."""
    eventually("it is let go", lambda: not alive(Batch, lambda each: each.batch_id == batch_id))


def _crash(batch: Batch) -> Any:
    error = KeyError(batch.batch_id)
    raise error


@pytest.mark.parametrize(
    "upstream",
    [
        pytest.param(lambda: upstream_of(_crash), id="crashed"),
        pytest.param(lambda: items_at("http://127.0.0.1:1/{id}"), id="unreachable"),
    ],
)
def test_what_could_not_be_sent_is_let_go(
    upstream: Callable[[], ThreadedUpstream], caplog: pytest.LogCaptureFixture
) -> None:
    """An API can be out of reach for days."""
    sender = upstream()

    def send() -> str:
        started = Started(sender, batch_of(1, 2, 3))
        assert not any(outcome.succeeded for outcome in started.finish())
        return started.batch.batch_id

    # What is logged is kept by the test's own log.
    with uncollected(), caplog.at_level(logging.CRITICAL, logger="ingest_service"):
        _nothing_holds(send())


def test_what_was_answered_is_let_go_with_its_call() -> None:
    """Also if whoever hears of its news has the call."""
    answered = "a" * 1_000

    def send() -> None:
        outcome = Outcome(succeeded=True, processed_data=answered)
        Started(upstream_of(lambda batch: [outcome]), batch_of(1)).finish()

    with uncollected():
        send()
        eventually(
            "nothing holds it",
            lambda: not alive(Outcome, lambda each: each.processed_data == answered),
        )


@pytest.mark.parametrize("late", [KeyError, SystemExit, None])
def test_what_was_given_up_is_let_go_when_its_threads_are_back(
    late: type[BaseException] | None,
) -> None:
    """However they come back, and also if some of it was never sent."""
    release = threading.Event()

    def connector(batch: Batch) -> Any:
        release.wait(GUARD)
        if late is not None:
            error = late("too late")
            raise error
        return [FINE]

    upstream = upstream_of(connector, 0.2, by_item=True)

    def give_up() -> str:
        started = Started(upstream, batch_of(1, 2, 3, 4, 5))
        started.finish()
        return started.batch.batch_id

    with uncollected():
        batch_id = give_up()
        release.set()
        _nothing_holds(batch_id)


def test_what_nobody_got_round_to_send_costs_no_attempt() -> None:
    """More items than threads, and the first ones took all the time."""
    release, call_count = threading.Event(), 0

    def connector(batch: Batch) -> Any:
        nonlocal call_count
        call_count += 1
        release.wait(GUARD)

    upstream = upstream_of(connector, 0.4, by_item=True)
    outcomes = Started(upstream, batch_of(1, 2, 3, 4, 5)).finish()
    release.set()

    assert [outcome.unsent for outcome in outcomes] == [False] * 3 + [True] * 2
    assert all(outcome.transient for outcome in outcomes)
    eventually("the threads are back", lambda: upstream._pool.overdue(float("inf")) == 0)
    assert call_count == 3


def test_no_request_goes_out_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up cannot be interrupted, but what comes of it is not used."""
    with slow_look_ups(monkeypatch) as looked_up, Scripted(lambda _: OK) as server:
        upstream = items_at(f"http://slow.invalid:{server.port}/{{id}}", 0.4)
        (outcome,) = Started(upstream, batch_of(1)).finish()
        looked_up.set()
        eventually("its thread is back", lambda: upstream._pool.overdue(float("inf")) == 0)

    assert (outcome.transient, outcome.unreachable) == (True, True)
    assert server.requests == []


def test_a_deadline_that_passes_between_connecting_and_writing_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is a connection then, and nothing is said over it."""
    release = threading.Event()
    connect = connections._PlainConnection.connect

    def dawdle(connection: Any) -> None:
        connect(connection)
        release.wait(GUARD)

    monkeypatch.setattr(connections._PlainConnection, "connect", dawdle)
    with Scripted(lambda _: OK) as server:
        upstream = items_at(server.items, 0.6)
        Started(upstream, batch_of(1)).finish()
        release.set()
        eventually("its thread is back", lambda: upstream._pool.overdue(float("inf")) == 0)

    assert server.connections == 1
    assert server.requests == []


def test_an_item_whose_look_up_took_too_long_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the second attempt, and not by the first as well."""
    looked_up, look_up, names = threading.Event(), socket.getaddrinfo, []

    def getaddrinfo(host: str, *args: Any, **kwargs: Any) -> Any:
        if host == "slow.invalid":
            names.append(host)
            if len(names) == 1:
                looked_up.wait(GUARD)
        return look_up("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with Scripted(lambda _: OK) as server:
        address = f"http://slow.invalid:{server.port}/{{id}}"
        with running(address, upstream_timeout=0.2) as service:
            (outcome,) = service.finish(service.send([1]))
            looked_up.set()
            eventually("the thread is back", lambda: not overdue(service))

    assert outcome.succeeded
    assert len(server.requests) == 1


def overdue(service: Any) -> int:
    """Return how many calls of a service's upstream are under way."""
    return int(service.parts.worker._upstream._pool.overdue(float("inf")))


def test_the_addresses_of_a_name_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not answer leaves some for the others, and all together keep to it."""
    shares: list[float] = []
    clock = iter([100.0, 101.0, 102.5, 103.0])

    def silent(address: Any, connection: Any, seconds: float) -> socket.socket:
        shares.append(seconds)
        raise TimeoutError

    monkeypatch.setattr(connections, "_open", silent)
    monkeypatch.setattr(connections._clock, "monotonic", lambda: next(clock))
    with pytest.raises(TimeoutError):
        connections._open_any([1, 2, 3, 4], None, 103.0)  # type: ignore[arg-type]

    assert shares == [0.75, 2 / 3, 0.25]


def test_what_is_known_beforehand_says_when_it_counts() -> None:
    """A finished call answers like any other; nonsense among the outcomes asks for nothing."""
    call = FinishedCall([FINE, Outcome(False, retry_after=3.0)], 50.0)
    assert (call.ends_at(), call.ended_at()) == (50.0, 50.0)
    assert list(call.retry_after()) == [(50.0, 3.0)]
    assert not call.connecting()
    assert list(FinishedCall(["nonsense"], 50.0).retry_after()) == []  # type: ignore[list-item]
