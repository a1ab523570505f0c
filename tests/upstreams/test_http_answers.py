"""What every kind of HTTP answer does to an item, on real sockets."""

import json
import sys
import threading
import tracemalloc

import orjson
import pytest

from ingest_service.upstreams.http import ItemConnector
from ingest_service.upstreams.outcomes import bounded
from tests.realtime import (
    Reply,
    Scripted,
    answer,
    cut,
    drip,
    eventually,
    reset,
    running,
    silence,
)
from tests.upstreams.calls import batch_of, client
from tests.upstreams.replies import HALF, OK, first


@pytest.mark.parametrize(
    ("reply", "data"),
    [
        (answer(200, {"a": [1, None]}), {"a": [1, None]}),
        (answer(200, b'"x"', Content_Type="application/problem+json; charset=x"), "x"),
        (answer(201, "gr\u00fcn".encode(), Content_Type="text/plain"), "gr\u00fcn"),
        (answer(200, b"gr\xfcn", Content_Type="text/plain; charset=latin-1"), "gr\u00fcn"),
        (answer(200, b""), None),
        (answer(200, b'\xef\xbb\xbf{"a": 1}'), {"a": 1}),
        (answer(200, b"1", Content_Encoding=""), 1),
        (b"HTTP/1.1 204 No Content\r\n\r\n", None),
        (cut(b"HTTP/1.0 200 OK\r\n\r\n[1]"), [1]),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n1\r\n]\r\n0\r\n\r\n",
            [1],
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, {"fine": True}),
        (answer(200, b"7", Content_Encoding="identity"), 7),
    ],
    ids=str.split(
        "json json-suffix utf-8 latin-1 empty bom no-coding 204 no-type chunked 100 identity"
    ),
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


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (cut(HALF), "it is cut off"),
        (cut(b"220 smtp.example ESMTP\r\n"), "it is no HTTP"),
        (reset, "ConnectionResetError"),
    ],
    ids=["half", "no-http", "reset"],
)
def test_an_answer_that_is_none_is_named_in_words_of_ours(reply: Reply, words: str) -> None:
    """Not in those of the other side, which may be anything."""
    with Scripted(lambda _: reply) as server:
        (outcome,) = ItemConnector(client(), server.items)(batch_of(1))

    assert outcome.error == f"The upstream did not answer in full: {words}."


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
        (answer(200, b"x", Content_Type="text/plain; charset=punycode"), 200, "charset"),
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


def test_an_answer_of_exactly_the_limit_is_kept() -> None:
    """1 MiB, if nothing else is set."""
    data = "x" * (2**20 - len(b'""'))
    with Scripted(first(answer(200, data))) as server, running(server.items) as service:
        (outcome,) = service.finish(service.send([1]))

    assert (outcome.succeeded, outcome.processed_data) == (True, data)
    assert bounded(outcome, 2**20) == outcome


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
        (outcome,) = service.finish(service.send([1]))
        eventually("its thread is free", lambda: not busy_threads())

    assert outcome.attempts == 2


def busy_threads() -> list[threading.Thread]:
    """Return the threads that are in a call of the upstream."""
    frames = sys._current_frames()
    busy = []
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        while frame is not None and thread.name == "upstream":
            if frame.f_code.co_name == "_run":
                busy.append(thread)
            frame = frame.f_back
    return busy


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


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 12345678901234567890123, 10**400])
def test_integers_of_any_size_stay_exact(number: int) -> None:
    """As far as Python writes them."""
    body = {"n": [number], "x": 0.5}
    text = json.dumps(body).encode()
    with Scripted(lambda _: answer(200, text)) as server:
        (outcome,) = ItemConnector(client(), server.items)(batch_of(1))

    assert outcome.processed_data == body
    assert bounded(outcome, 10_000) == outcome


@pytest.mark.parametrize("text", [b"9" * 5_000, b"[12345678901234567890, NaN]"])
def test_numbers_that_cannot_be_passed_on_make_an_answer_unreadable(text: bytes) -> None:
    """And never raise."""
    with Scripted(lambda _: answer(200, text)) as server:
        (outcome,) = ItemConnector(client(), server.items)(batch_of(1))

    assert (outcome.succeeded, outcome.error) == (False, "The answer is not valid JSON.")
