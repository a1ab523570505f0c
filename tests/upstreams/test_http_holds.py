"""An HTTP API that asks to be left alone, or is gone, or insists on its rate."""

import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingest_service.demo_upstream import DemoBehaviour, DemoUpstream
from ingest_service.upstreams import http_answers
from ingest_service.upstreams.answer import Answer
from ingest_service.upstreams.http_answers import classify, retry_after
from tests.realtime import (
    GUARD,
    Scripted,
    answer,
    eventually,
    running,
)
from tests.upstreams.replies import OK, first


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("0", 0, 0),
        ("7", 6, 7),
        ("7.5", 7, 7.5),
        ("000000000000000007", 6, 7),
        ("7, 7", 6, 7),
        ("in a while", 0, 0),
        ("-7", 0, 0),
        ("99999999999999999999", 29, 30),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 29, 30),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 0),
    ],
)
def test_retry_after_holds_the_pace(status: int, value: str, least: float, most: float) -> None:
    """In seconds or as a date; nonsense holds nothing; never longer than allowed."""
    reply = first(answer(status, Retry_After=value))
    with Scripted(reply) as server, running(server.items, upstream_max_hold=30) as service:
        ingestion_id = service.send([1])
        eventually("an answer", lambda: service.snapshot(ingestion_id).counts.in_flight == 0)
        eventually("a retry or a hold", lambda: len(server.requests) == 2 or held(service) > 0)
        left = held(service)

    assert least <= left <= most


def held(service: Any) -> float:
    """Return for how many seconds the pace is held."""
    pace = service.parts.engine.reading.snapshot().pace
    return max(0.0, float(pace.held_until) - time.monotonic())


@pytest.mark.parametrize(
    "length", [b"", b"Content-Length: 9\r\n", b"Transfer-Encoding: chunked\r\n"]
)
def test_a_refusal_whose_body_never_comes_is_one_all_the_same(
    length: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody needs it, and what its head says is not lost."""
    monkeypatch.setattr(http_answers, "_SOON", 0.05)
    near, far = socket.socketpair()
    with near, far:
        far.sendall(b"HTTP/1.1 429 X\r\nRetry-After: 60\r\n" + length + b"\r\n")
        refused = classify(Answer(near, time.monotonic() + GUARD), 1_000, datetime.now(UTC))

    assert (refused.status_code, refused.transient, refused.retry_after) == (429, True, 60.0)


def test_a_hold_ends_by_itself_and_the_item_goes_on() -> None:
    """Nothing was sent before it was over."""
    with Scripted(first(answer(429, Retry_After="1"))) as server, running(server.items) as service:
        began = time.monotonic()
        (outcome,) = service.finish(service.send([1]))

    assert time.monotonic() - began >= 1
    assert (outcome.succeeded, outcome.attempts) == (True, 2)


@hypothesis_settings(max_examples=40)
@given(st.text() | st.from_regex(r"\A\w{3}, \d{1,3} \w{3} \d{1,30} \d\d:\d\d:\d\d [+-]?\w{1,30}\Z"))
def test_no_retry_after_makes_it_stumble(value: str) -> None:
    """It means a time that is not negative, or nothing."""
    seconds = retry_after(value, datetime(2026, 1, 1, tzinfo=UTC))
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize("value", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT"])
def test_a_date_beyond_all_dates_is_nonsense(value: str) -> None:
    """Python cannot say it."""
    assert retry_after(value, datetime(2026, 1, 1, tzinfo=UTC)) is None


def test_retries_survive_a_restart(tmp_path: Path) -> None:
    """With the same key, and the count goes on."""
    journal = tmp_path / "journal.sqlite3"
    with Scripted(lambda _: answer(500)) as server:
        with running(server.items, journal=journal, backoff=0.2, backoff_max=0.2) as service:
            ingestion_id = service.send([1, 2])
            eventually("both fail", lambda: service.snapshot(ingestion_id).counts.retrying == 2)
        server.reply = lambda _: OK
        before = len(server.requests)
        with running(server.items, journal=journal) as service:
            outcomes = service.finish(ingestion_id)

    keys = {request.key for request in server.requests}
    attempts = [request.attempt for request in server.requests if request.key == min(keys)]
    assert len(keys) == 2
    assert attempts == list(range(1, len(attempts) + 1))
    assert len(server.requests) - before == 2
    assert all(outcome.succeeded and outcome.attempts >= 2 for outcome in outcomes)


def test_a_hold_survives_a_restart(tmp_path: Path) -> None:
    """What the upstream asked for is not forgotten."""
    journal = tmp_path / "journal.sqlite3"
    with Scripted(lambda _: answer(503, Retry_After="60")) as server:
        with running(server.items, journal=journal) as service:
            service.send([1])
            eventually("the hold", lambda: held(service) > 0)
        with running(server.items, journal=journal) as service:
            assert 50 < held(service) <= 60


def test_a_connection_that_is_refused_is_tried_again() -> None:
    """It was not even sent, but one such failure does not make an outage."""
    with running("http://127.0.0.1:1/{id}", max_attempts=2) as service:
        (outcome,) = service.finish(service.send([1]))

    assert "cannot be reached: NewConnectionError" in str(outcome.error)
    assert outcome.attempts == 2


def test_an_outage_costs_no_attempts_and_ends_by_itself() -> None:
    """After five connections in a row failed, one batch at a time asks, less and less often."""
    with Scripted(lambda _: OK) as server:
        address = server.items
    with running(address, max_attempts=2, backoff=0.01, max_concurrent_batches=4) as service:
        ingestion_ids = [service.send(range(1, 10)) for _ in range(3)]
        worker = service.parts.worker
        eventually("it is known", lambda: worker.breaker.probes >= 4)
        assert len(service.parts.engine.reading.snapshot().in_flight) <= 1
        with Scripted(lambda _: OK, port=server.port) as server:
            outcomes = [outcome for name in ingestion_ids for outcome in service.finish(name)]

    assert not worker.breaker.is_open
    assert all(outcome.succeeded for outcome in outcomes)
    assert max(outcome.attempts for outcome in outcomes) <= 2
    assert len(server.requests) == 27


def test_the_limit_of_the_demo_upstream_is_never_exceeded() -> None:
    """Each batch comes no sooner than the interval after the one before, retries included."""
    upstream = DemoUpstream(
        DemoBehaviour(latency=0.01, failures=0.2, interval=0.15, seed=3)
    ).start()
    try:
        with running(f"{upstream.address}/items/{{id}}", interval=0.17) as service:
            ingestion_id = service.send(range(1, 25))
            service.finish(ingestion_id)
            counts = service.snapshot(ingestion_id).counts
    finally:
        upstream.stop()
    stats = upstream.stats()

    assert stats["rejected_429"] == 0
    assert stats["batches"] >= 10
    assert stats["smallest_gap"] >= 0.13
    assert stats["failed_503"] > 0
    assert counts.succeeded == 24
