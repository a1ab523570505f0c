"""The demo upstream: what it answers, and that it insists on its rate."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import urllib3
from click.testing import CliRunner

from ingest_service.cli import cli
from ingest_service.demo_upstream import TOLERANCE, DemoBehaviour, DemoUpstream, Limiter
from tests.realtime import running


@contextmanager
def demo(**behaviour: Any) -> Iterator[DemoUpstream]:
    """Run one on a free port, without any delays."""
    upstream = DemoUpstream(
        DemoBehaviour(**{"latency": 0, "failures": 0, "interval": 0} | behaviour)
    )
    upstream.start()
    try:
        yield upstream
    finally:
        upstream.stop()


def ask(upstream: DemoUpstream, path: str, **headers: str) -> urllib3.BaseHTTPResponse:
    """Send a GET."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with urllib3.PoolManager() as pool:
        return pool.request("GET", upstream.address + path, headers=named, retries=False)


def test_it_answers_for_items_mappings_and_batches() -> None:
    """Whatever way the service is set up."""
    with demo() as upstream:
        with running(f"{upstream.address}/items/{{id}}") as service:
            ids = service.finish(service.send([7]))
            mappings = service.finish(service.send_mappings("a/b"))
        with running(f"batch+{upstream.address}/batch") as service:
            batch = service.finish(service.send([1, 2]))

    assert ids[0].processed_data == {"id": 7, "answered_by": "demo-upstream"}
    assert mappings[0].processed_data["id"] == "a/b"
    assert [outcome.processed_data["id"] for outcome in batch] == [1, 2]
    assert upstream.stats()["requests"] == 3


def test_its_failures_pass_and_its_rejections_do_not() -> None:
    """And both are the same every time, for the same seed."""
    with (
        demo(failures=0.5, rejects=0.2, seed=1) as upstream,
        running(f"{upstream.address}/items/{{id}}", max_attempts=30) as service,
    ):
        first = service.finish(service.send(range(1, 41)))
        again = service.finish(service.send(range(1, 41)))
    statuses = {outcome.status_code for outcome in first}

    assert statuses == {200, 404, 422}
    assert 1 < max(outcome.attempts for outcome in first) <= 30
    assert first == again


def test_a_batch_that_fails_in_part_says_so_item_by_item() -> None:
    """With the status of each."""
    with (
        demo(failures=0.5, seed=1) as upstream,
        running(f"batch+{upstream.address}/batch", max_attempts=30) as service,
    ):
        outcomes = service.finish(service.send(range(1, 41)))

    assert all(outcome.succeeded for outcome in outcomes)
    assert upstream.stats()["failed_503"] > 0


@pytest.mark.parametrize(
    ("path", "status"),
    [("/stats", 200), ("/items/1", 200), ("/items/", 404), ("/items/1/2", 404), ("/", 404)],
)
def test_it_knows_its_paths(path: str, status: int) -> None:
    """An encoded slash does not make two segments of one."""
    with demo() as upstream:
        assert ask(upstream, path).status == status


def test_who_comes_too_soon_is_sent_away() -> None:
    """Until the interval is over; the requests of one batch count as one start."""
    with demo(interval=60) as upstream:
        seen = [
            ask(upstream, "/items/1", Idempotency_Key=key, X_Ingest_Attempt=attempt)
            for key, attempt in (("a/0", "1"), ("a/1", "1"), ("b/0", "1"), ("a/0", "2"))
        ]
        stats = ask(upstream, "/stats").json()

    assert [answer.status for answer in seen] == [200, 200, 429, 429]
    assert 59 <= int(seen[2].headers["Retry-After"]) <= 61
    assert (stats["batches"], stats["rejected_429"]) == (3, 2)
    assert stats["smallest_gap"] < 60


def test_the_limiter_counts_from_start_to_start() -> None:
    """With a little tolerance; who is sent away does not delay the next."""
    limiter = Limiter(5)
    waits = [limiter.wait(number, now) for number, now in enumerate((0, 4.97, 4.99, 9.9, 9.98))]

    assert [wait > 0 for wait in waits] == [False, True, False, True, False]
    assert waits[1] >= TOLERANCE
    assert limiter.smallest_gap == pytest.approx(4.91)


def test_the_service_waits_as_long_as_it_is_told_to() -> None:
    """A service that is set up too fast is slowed down, and loses nothing."""
    with (
        demo(interval=0.5) as upstream,
        running(f"{upstream.address}/items/{{id}}") as service,
    ):
        outcomes = service.finish(service.send(range(1, 7)))

    assert all(outcome.succeeded for outcome in outcomes)
    assert upstream.stats()["rejected_429"] > 0


def test_the_command_serves_until_it_is_interrupted() -> None:
    """And says first how to use it."""
    command = "-m ingest_service demo-upstream --port 0 --latency 0 --failures 0 --seed 4"
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, *command.split()],
        stdout=subprocess.PIPE,
        text=True,
        # An interrupt is ignored by what a shell has put into the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    with process:
        assert process.stdout is not None
        hint = process.stdout.readline()
        address = hint.partition("INGEST_UPSTREAM='")[2].partition("'")[0]
        with running(address) as service:
            assert service.finish(service.send([1]))[0].succeeded
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()

    assert process.returncode == 0
    assert "seed 4, {'requests': 1" in rest


def test_a_port_that_is_taken_is_named() -> None:
    """In one line."""
    with demo() as upstream:
        port = upstream.address.rpartition(":")[2]
        ran = CliRunner().invoke(cli, ["demo-upstream", "--port", port])
    assert ran.exit_code == 2
    assert f"Port {port} cannot be listened on" in ran.stderr


@pytest.mark.parametrize(
    ("option", "values", "allowed"),
    [
        ("--latency", ("nan", "inf", "-1", "86401"), "from 0 to 86400"),
        ("--interval", ("nan", "inf", "-1", "86401"), "from 0 to 86400"),
        ("--failures", ("nan", "2", "-0.1"), "from 0 to 1"),
        ("--reject", ("nan", "2", "-0.1"), "from 0 to 1"),
        ("--port", ("-1", "65536"), "0<=x<=65535"),
    ],
)
def test_a_number_that_makes_no_sense_is_a_usage_error(
    option: str, values: tuple[str, ...], allowed: str
) -> None:
    """It says what does."""
    for value in values:
        ran = CliRunner().invoke(cli, ["demo-upstream", "--port", "0", option, value])
        assert ran.exit_code == 2
        assert allowed in ran.stderr
