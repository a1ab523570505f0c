"""The HTTP upstream on real sockets: what every kind of answer does to an item."""

import itertools
import logging
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingest_service.demo_upstream import DemoBehaviour, DemoUpstream
from ingest_service.domain.items import Kind
from ingest_service.errors import SettingsError
from ingest_service.upstreams.connections import IDLE
from ingest_service.upstreams.http import retry_after
from ingest_service.upstreams.http_config import read_headers
from ingest_service.version import VERSION
from tests.realtime import (
    Reply,
    Request,
    Scripted,
    answer,
    cut,
    drip,
    eventually,
    kinds,
    reset,
    running,
    silence,
)

OK = answer(200, {"fine": True})
#: Tells of ten bytes and sends four.
HALF = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\nhalf"


def first(reply: Reply, then: Reply = OK) -> Callable[[Request], Reply]:
    """Answer the first request with `reply`, all others with `then`."""
    replies = itertools.chain([reply], itertools.repeat(then))
    return lambda _: next(replies)


@pytest.mark.parametrize(
    ("reply", "data"),
    [
        (answer(200, {"a": [1, None]}), {"a": [1, None]}),
        (answer(200, b'"x"', Content_Type="application/problem+json; charset=x"), "x"),
        (answer(201, "gr\u00fcn".encode(), Content_Type="text/plain"), "gr\u00fcn"),
        (answer(200, b"gr\xfcn", Content_Type="text/plain; charset=latin-1"), "gr\u00fcn"),
        (answer(200, b""), None),
        (b"HTTP/1.1 204 No Content\r\n\r\n", None),
        (cut(b"HTTP/1.0 200 OK\r\n\r\n[1]"), [1]),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n1\r\n]\r\n0\r\n\r\n",
            [1],
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, {"fine": True}),
        (answer(200, b"7", Content_Encoding="identity"), 7),
    ],
    ids=str.split("json json-suffix utf-8 latin-1 empty 204 no-type chunked 100 identity"),
)
def test_the_body_of_a_2xx_is_the_data_of_the_item(reply: Reply, data: object) -> None:
    """As JSON if it says so or says nothing, as text otherwise."""
    with Scripted(first(reply)) as server, running(server.items) as service:
        (outcome,) = service.finish(service.send([1]))

    assert (outcome.succeeded, outcome.processed_data, outcome.attempts) == (True, data, 1)


@pytest.mark.parametrize(
    "reply",
    [
        *(answer(status) for status in (408, 425, 429, 500, 502, 503, 504, 507, 599)),
        cut(b""),
        reset,
        cut(HALF),
        cut(b"HTTP/1.1 200 OK\r\nContent-Len"),
        cut(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"),
        cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
        cut(b"hello, this is no HTTP\r\n\r\n"),
        cut(b"HTTP/1.1 503 No\r\nContent-Length: 10\r\n\r\nhalf"),
        answer(500, b"x" * 3_000_000),
    ],
    ids=str.split(
        "408 425 429 500 502 503 504 507 599 closed reset half-body half-head half-headers "
        "half-chunk no-http half-error large-error"
    ),
)
def test_what_may_pass_is_tried_again(reply: Reply) -> None:
    """With the same key, and counted."""
    with Scripted(first(reply)) as server, running(server.items) as service:
        (outcome,) = service.finish(service.send([1]))

    assert (outcome.succeeded, outcome.attempts) == (True, 2)
    assert [request.attempt for request in server.requests] == [1, 2]
    assert len({request.key for request in server.requests}) == 1


def test_two_contradicting_lengths_are_an_unreadable_answer_that_is_tried_again() -> None:
    """Nobody knows where it ends."""
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 4, 5\r\n\r\nhalf"
    with Scripted(first(cut(reply))) as server, running(server.items) as service:
        (outcome,) = service.finish(service.send([1]))

    assert outcome.attempts == 2


@pytest.mark.parametrize(
    ("reply", "status", "words"),
    [
        *((answer(code), code, f"answered {code}.") for code in (400, 401, 403, 404, 409, 410)),
        *((answer(code), code, f"answered {code}.") for code in (413, 418, 422, 451)),
        *(
            (answer(code, Location="/elsewhere"), code, "redirects are not followed")
            for code in (301, 302, 303, 304, 307, 308)
        ),
        (answer(404, b"x" * 3_000_000), 404, "answered 404."),
        (answer(200, b"{not json"), 200, "not valid JSON"),
        (answer(200, b"NaN"), 200, "not valid JSON"),
        (answer(200, b'"\xff"'), 200, "not valid JSON"),
        (answer(200, b"[" * 100_000), 200, "not valid JSON"),
        (answer(200, b"\xff", Content_Type="text/plain"), 200, "charset"),
        (answer(200, b"x", Content_Type="text/plain; charset=klingon"), 200, "charset"),
        (answer(200, b"x", Content_Type="text/plain; charset=zlib"), 200, "charset"),
        (answer(200, b"\x1f\x8b", Content_Encoding="gzip"), 200, "encoded (gzip)"),
        (answer(200, b"x" * (2**20 + 1)), 200, "larger than 1048576 bytes"),
    ],
)
def test_what_will_not_pass_fails_the_item_at_once(reply: Reply, status: int, words: str) -> None:
    """After one attempt, with a reason in words."""
    with Scripted(first(reply)) as server, running(server.items) as service:
        (outcome,) = service.finish(service.send([1]))

    assert (outcome.succeeded, outcome.attempts, outcome.status_code) == (False, 1, status)
    assert words in str(outcome.error)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "reply",
    [silence, drip(OK, 0.02), drip(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 500, 0.005)],
    ids=["silence", "dripping-head", "dripping-body"],
)
def test_an_answer_that_takes_too_long_as_a_whole_is_given_up_and_tried_again(reply: Reply) -> None:
    """However alive it looks; and its thread comes back."""
    with (
        Scripted(first(reply)) as server,
        running(server.items, upstream_timeout=0.3) as service,
    ):
        began = time.monotonic()
        (outcome,) = service.finish(service.send([1]))
        taken = time.monotonic() - began
        eventually("its thread is free", lambda: not busy_threads())

    assert outcome.attempts == 2
    assert 0.3 <= taken < 3


def busy_threads() -> list[threading.Thread]:
    """Return the threads that are in a call of the upstream."""
    frames = sys._current_frames()
    found = []
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        while frame is not None and thread.name == "upstream":
            if frame.f_code.co_name == "_run":
                found.append(thread)
            frame = frame.f_back
    return found


def test_a_connection_that_is_refused_is_tried_again() -> None:
    """It was not even sent, but one such failure does not make an outage."""
    with running("http://127.0.0.1:1/{id}", max_attempts=2) as service:
        (outcome,) = service.finish(service.send([1]))

    assert "cannot be reached: NewConnectionError" in str(outcome.error)
    assert outcome.attempts == 2


def test_an_endless_answer_is_cut_off_and_takes_no_memory() -> None:
    """10 MiB and more come in; a little more than the limit is read."""
    flood = answer(200, b"x" * 10 * 2**20, Content_Type="text/plain")
    with Scripted(first(cut(flood))) as server, running(server.items) as service:
        tracemalloc.start()
        (outcome,) = service.finish(service.send([1]))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert not outcome.succeeded
    # The flood itself was there before; the client's share is what counts.
    assert peak < 6 * 2**20


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("0", 0, 0),
        ("7", 6, 7),
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
    pace = service.parts.worker._pace
    return max(0.0, float(pace.held_until) - time.monotonic())


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


@pytest.mark.parametrize("kind", list(Kind))
def test_one_bad_item_does_not_fail_its_neighbours(kind: Kind) -> None:
    """Each has a request of its own, and only the failed one is sent again."""
    bad = {Kind.IDS: "/items/2", Kind.MAPPINGS: "/items/b"}[kind]

    def reply(request: Request) -> bytes:
        return answer(500 if request.target == bad else 200)

    with Scripted(reply) as server, running(server.items, max_attempts=3) as service:
        outcomes = service.finish(kinds(service, kind))

    assert [outcome.succeeded for outcome in outcomes] == [True, False, True]
    assert [outcome.attempts for outcome in outcomes] == [1, 3, 1]
    assert sorted(request.target for request in server.requests).count(bad) == 3
    assert len(server.requests) == 5


def test_the_items_of_a_batch_are_sent_at_the_same_time() -> None:
    """Nobody is answered before all three are there."""
    together = threading.Barrier(3, timeout=5)

    def act(connection: Any) -> bool:
        together.wait()
        connection.sendall(OK)
        return True

    with Scripted(lambda _: act) as server, running(server.items) as service:
        assert all(outcome.succeeded for outcome in service.finish(service.send([1, 2, 3])))
    assert server.connections == 3


def test_every_request_says_who_it_is() -> None:
    """The key names batch and item; ids are asked for, mappings are sent."""
    with Scripted(lambda _: OK) as server, running(server.items) as service:
        service.finish(service.send([7]))
        service.finish(service.send_mappings("m"))
    get, post = server.requests

    assert (get.method, get.target, get.body) == ("GET", "/items/7", b"")
    assert (post.method, post.target) == ("POST", "/items/m")
    assert orjson.loads(post.body) == {"id": "m", "source": "s", "target": "t"}
    assert post.headers["content-type"] == "application/json"
    for request in (get, post):
        assert request.headers["user-agent"] == f"ingest-service/{VERSION}"
        assert request.headers["accept-encoding"] == "identity"
        assert request.key.endswith("/0")
        assert len(request.key) == 38
        assert request.attempt == 1


def test_keys_differ_between_items_and_stay_the_same_between_attempts() -> None:
    """So that the other side can tell a repetition from another item."""
    with (
        Scripted(lambda _: answer(500)) as server,
        running(server.items, max_attempts=3) as service,
    ):
        service.finish(service.send([1, 2, 3, 4]))
    keys: dict[str, list[int]] = {}
    for request in server.requests:
        keys.setdefault(request.key, []).append(request.attempt)

    assert len(keys) == 4
    assert all(attempts == [1, 2, 3] for attempts in keys.values())


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("../../x", "..%2F..%2Fx"),
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("a/b?c#d", "a%2Fb%3Fc%23d"),
        ("%2e%2e", "%252e%252e"),
        ("gr\u00fcn \U0001f600", "gr%C3%BCn%20%F0%9F%98%80"),
        ("a\r\nHost: evil\r\n\r\n", "a%0D%0AHost%3A%20evil%0D%0A%0D%0A"),
        ("\x00;@:\\{id}", "%00%3B%40%3A%5C%7Bid%7D"),
    ],
)
def test_whatever_an_item_is_called_it_is_one_segment_of_the_path(name: str, target: str) -> None:
    """It can neither leave its place nor add to the request."""
    with Scripted(lambda _: OK) as server, running(server.items) as service:
        service.finish(service.send_mappings(name))

    assert server.requests[0].target == f"/items/{target}"
    assert server.requests[0].headers["host"] == f"127.0.0.1:{server.port}"


def test_secret_headers_are_sent_and_told_to_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in a log at any level, not in an error."""
    secret = "s3cr3t-t0ken"  # noqa: S105
    headers = tmp_path / "headers"
    headers.write_text(f"Authorization: Bearer {secret}\nuser-agent: mine\n")
    caplog.set_level(logging.DEBUG)
    with (
        Scripted(first(reset, answer(401))) as server,
        running(server.items, upstream_headers_file=str(headers)) as service,
    ):
        (outcome,) = service.finish(service.send([1]))

    assert [request.headers["authorization"] for request in server.requests] == [
        f"Bearer {secret}"
    ] * 2
    assert server.requests[0].headers["user-agent"] == "mine"
    assert secret not in caplog.text + str(outcome)
    assert caplog.records


@pytest.mark.parametrize("name", ["Idempotency-Key", "content-length", "Transfer-Encoding"])
def test_headers_that_belong_to_the_service_are_refused(tmp_path: Path, name: str) -> None:
    """Two of them would contradict each other; the value is not repeated."""
    headers = tmp_path / "headers"
    headers.write_text(f"X-Fine: yes\n{name}: 77777\n")
    with pytest.raises(SettingsError, match=f"line 2 must not set {name}") as refused:
        read_headers(str(headers))
    assert "77777" not in str(refused.value)


def test_the_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens there, and it does not matter."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Scripted(lambda _: OK) as server, running(server.items) as service:
        assert service.finish(service.send([1]))[0].succeeded


def test_a_proxy_that_is_set_is_used() -> None:
    """It is asked for the whole address."""
    with (
        Scripted(lambda _: OK) as proxy,
        running(
            "http://upstream.invalid/{id}", upstream_proxy=f"http://127.0.0.1:{proxy.port}"
        ) as service,
    ):
        assert service.finish(service.send([1]))[0].succeeded
    assert proxy.requests[0].target == "http://upstream.invalid/1"


def test_connections_are_used_again() -> None:
    """Thirty items, three at a time, over three connections at most."""
    with Scripted(lambda _: OK) as server, running(server.items) as service:
        service.finish(service.send(range(1, 31)))

    assert len(server.requests) == 30
    assert server.connections <= 3


def test_a_refusal_does_not_cost_the_connection() -> None:
    """Its body is read, although nobody needs it."""
    with (
        Scripted(lambda _: answer(404, {"error": "no"})) as server,
        running(server.items) as service,
    ):
        service.finish(service.send([1, 2, 3] * 5))

    assert server.connections <= 3


def test_a_connection_that_has_idled_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other side may be hanging up at this very moment."""
    monkeypatch.setattr("ingest_service.upstreams.connections.IDLE", -1)
    with Scripted(lambda _: OK) as server, running(server.items) as service:
        service.finish(service.send([1]))
        service.finish(service.send([2]))

    assert server.connections == 2
    assert IDLE < 2, "gunicorn hangs up after two seconds, by default"


def test_a_server_that_hangs_up_between_two_requests_costs_no_attempt() -> None:
    """That is noticed before the next request is sent."""
    with Scripted(lambda _: cut(OK)) as server, running(server.items) as service:
        outcomes = [service.finish(service.send([n]))[0] for n in range(1, 6)]

    assert [outcome.attempts for outcome in outcomes] == [1] * 5


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """Return a certificate for 127.0.0.1 that vouches for itself, and what serves it."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
    command += f"-subj /CN=upstream -addext subjectAltName=IP:127.0.0.1 -out {certificate}"
    subprocess.run([*command.split(), "-keyout", key], check=True, capture_output=True)  # noqa: S603
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context


def test_a_certificate_that_nobody_vouches_for_is_refused(
    certificate: tuple[Path, ssl.SSLContext],
) -> None:
    """No request is sent, and the item is not lost: the operator can put it right."""
    with (
        Scripted(lambda _: OK, tls=certificate[1]) as server,
        running(server.items, max_attempts=1) as service,
    ):
        (outcome,) = service.finish(service.send([1]))

    assert "cannot be reached: SSLError, SSLCertVerificationError" in str(outcome.error)
    assert server.requests == []


def test_a_certificate_that_the_operator_vouches_for_is_accepted(
    certificate: tuple[Path, ssl.SSLContext],
) -> None:
    """`INGEST_UPSTREAM_CA` names it."""
    with (
        Scripted(lambda _: OK, tls=certificate[1]) as server,
        running(server.items, upstream_ca=str(certificate[0])) as service,
    ):
        outcomes = service.finish(service.send([1, 2, 3, 4]))

    assert [outcome.attempts for outcome in outcomes if outcome.succeeded] == [1] * 4


def test_a_batch_is_one_request_and_its_answer_lists_an_outcome_an_item() -> None:
    """Only what failed for now is sent again, under a key of its own."""
    lists = iter(
        [
            {
                "results": [
                    {"status": "success", "error": None, "n": 1},
                    {"status": "failed", "error": "later", "status_code": 503},
                    {"status": "failed", "error": "never"},
                ]
            },
            [{"processed_data": "two"}],
        ]
    )
    with (
        Scripted(lambda _: answer(200, next(lists))) as server,
        running(server.batch) as service,
    ):
        ingestion_id = service.send([1, 2, 3])
        one, two, three = service.finish(ingestion_id)
    whole, rest = server.requests
    batch_id = orjson.loads(whole.body)["batch_id"]

    assert orjson.loads(whole.body) == {"batch_id": batch_id, "ids": [1, 2, 3]}
    assert orjson.loads(rest.body) == {"batch_id": batch_id, "ids": [2]}
    assert (whole.key, rest.key) == (batch_id, f"{batch_id}/1")
    assert (one.succeeded, one.processed_data["n"]) == (True, 1)
    assert (two.succeeded, two.processed_data, two.attempts) == (True, "two", 2)
    assert (three.succeeded, three.error, three.attempts) == (False, "never", 1)


@pytest.mark.parametrize("batch_size", [3, 300])
def test_a_batch_that_is_sent_again_as_a_whole_has_the_same_key(batch_size: int) -> None:
    """Otherwise the other side could do it twice."""
    with (
        Scripted(first(cut(HALF), answer(200, {}))) as server,
        running(server.batch, batch_size_ids=batch_size) as service,
    ):
        outcomes = service.finish(service.send(range(1, batch_size + 1)))

    assert [request.attempt for request in server.requests] == [1, 2]
    assert len({request.key for request in server.requests}) == 1
    assert all(outcome.succeeded for outcome in outcomes)


def test_the_key_of_a_long_rest_of_a_batch_fits_into_a_header() -> None:
    """Whatever is left of it."""
    failed = {"status": "failed", "status_code": 500}
    listed = [failed if n % 2 else n for n in range(600)]
    with (
        Scripted(first(answer(200, listed), answer(200, {}))) as server,
        running(server.batch, batch_size_ids=600) as service,
    ):
        service.finish(service.send(range(1, 601)))

    assert len(server.requests[1].key) <= 200


@pytest.mark.parametrize(
    ("listed", "words"),
    [([1, 2], "listed 2 outcomes for 3 items"), ([], "listed 0 outcomes for 3 items")],
)
def test_a_wrong_number_of_outcomes_fails_the_batch(listed: object, words: str) -> None:
    """Nobody can tell which is whose."""
    with Scripted(lambda _: answer(200, listed)) as server, running(server.batch) as service:
        outcomes = service.finish(service.send([1, 2, 3]))

    assert all(words in str(outcome.error) for outcome in outcomes)


@pytest.mark.parametrize("depth", [250, 253, 254, 400])
def test_an_answer_that_is_nested_too_deep_to_be_passed_on_never_breaks_a_response(
    depth: int,
) -> None:
    """It is kept if it can be shown, and otherwise the item has failed in words."""
    reply = answer(200, b"[" * depth + b"]" * depth)
    with Scripted(lambda _: reply) as server, running(server.items) as service:
        (outcome,) = service.finish(service.send([1]))

    orjson.dumps({"results": [{"processed_data": outcome.processed_data}]})
    assert outcome.succeeded == (depth == 250)


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


def test_an_outage_costs_no_attempts_and_ends_by_itself() -> None:
    """After five connections in a row failed, one batch at a time asks, less and less often."""
    with Scripted(lambda _: OK) as server:
        address = server.items
    with running(address, max_attempts=2, backoff=0.01, max_concurrent_batches=4) as service:
        ingestion_ids = [service.send(range(1, 10)) for _ in range(3)]
        worker = service.parts.worker
        eventually("it is known", lambda: worker._reach.probes >= 4)
        assert len(worker.in_flight) <= 1
        with Scripted(lambda _: OK, port=server.port) as server:
            outcomes = [each for one in ingestion_ids for each in service.finish(one)]

    assert not worker._reach.lost
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
