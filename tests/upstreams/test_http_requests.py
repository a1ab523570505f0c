"""What an HTTP request says, and how connections are kept."""

import contextlib
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest

from ingest_service.domain.items import Kind
from ingest_service.upstreams.connections import IDLE
from ingest_service.version import VERSION
from tests.realtime import (
    GUARD,
    Reply,
    Request,
    Scripted,
    answer,
    cut,
    drip,
    eventually,
    kinds,
    running,
    silence,
)
from tests.upstreams.calls import client
from tests.upstreams.replies import OK, first


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


@pytest.mark.parametrize(
    ("address", "host", "target"),
    [
        ("http://Example.com/{id}", "example.com", "/{id}"),
        ("http://example.com:80/{id}", "example.com", "/{id}"),
        ("http://example.com:443/{id}", "example.com:443", "/{id}"),
        ("https://example.com:443/{id}", "example.com", "/{id}"),
        ("HTTPS://example.com:0444/{id}", "example.com:444", "/{id}"),
        ("http://example.com.:/{id}", "example.com", "/{id}"),
        ("http://[::1]:80/{id}", "[::1]", "/{id}"),
        ("http://[fe80::1%25lo]:81/{id}", "[fe80::1]:81", "/{id}"),
        ("http://h/{id}?all=100%&zz=%zz%41", "h", "/{id}?all=100%25&zz=%25zz%41"),
        ("http://h/{id}?literally=%7Bid%7D", "h", "/{id}?literally=%7Bid%7D"),
    ],
)
def test_a_request_names_the_server_that_it_goes_to(address: str, host: str, target: str) -> None:
    """Without what only the way there needs, or nobody."""
    endpoint = client().open(address)
    assert (endpoint.host, endpoint.target) == (host, target)


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("/a/{id}?x={id}&y=[z]|{other}%20#gone", "/a/7?x=7&y=%5Bz%5D%7C%7Bother%7D%20"),
        ("?only={id}", "/?only=7"),
    ],
)
def test_the_rest_of_an_address_is_sent_as_it_is_written(address: str, target: str) -> None:
    """But for what no first line of a request may have."""
    with (
        Scripted(lambda _: OK) as server,
        running(f"http://127.0.0.1:{server.port}{address}") as service,
    ):
        service.finish(service.send([7]))

    assert server.requests[0].target == target


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


def test_a_proxy_passes_on_every_byte_to_an_upstream_with_tls(
    certificate: tuple[Path, ssl.SSLContext],
) -> None:
    """It is told where to, and sees nothing of the requests."""

    def relay(connection: socket.socket) -> bool:
        with socket.create_connection(("127.0.0.1", server.port)) as other:
            connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=pump, args=[other, connection])
            back.start()
            pump(connection, other)
            back.join(GUARD)
        return False

    with (
        Scripted(lambda _: OK, tls=certificate[1]) as server,
        Scripted(lambda _: relay) as proxy,
        running(
            server.items,
            upstream_ca=str(certificate[0]),
            upstream_proxy=f"http://127.0.0.1:{proxy.port}",
        ) as service,
    ):
        outcomes = service.finish(service.send([1, 2, 3, 4]))

    assert all(outcome.succeeded for outcome in outcomes)
    assert {(each.method, each.target) for each in proxy.requests} == {
        ("CONNECT", f"127.0.0.1:{server.port}")
    }
    assert sorted(each.target for each in server.requests) == [f"/items/{n}" for n in range(1, 5)]
    assert server.connections == proxy.connections <= 3


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes until nothing comes any more."""
    with contextlib.suppress(OSError):
        while text := source.recv(2**16):
            sink.sendall(text)
        sink.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 407 Who are you\r\n\r\n",
        cut(b"HTTP/1.1 200 Conn"),
        cut(b"X" * 300_000),
        silence,
        drip(b"HTTP/1.1 200 Connected\r\n" + b"A: b\r\n" * 100, 0.02),
    ],
    ids=["no-http", "refusal", "half", "endless", "silence", "dripping"],
)
def test_a_proxy_that_does_not_connect_takes_no_thread_and_no_item_with_it(reply: Reply) -> None:
    """However it does not: nothing was sent, so that costs no more than an attempt."""
    with (
        Scripted(first(reply, b"HTTP/1.1 503 No\r\n\r\n")) as proxy,
        running(
            "https://upstream.invalid/{id}",
            upstream_proxy=f"http://127.0.0.1:{proxy.port}",
            upstream_timeout=0.5,
            max_attempts=2,
        ) as service,
    ):
        (outcome,) = service.finish(service.send([1]))

    assert outcome.attempts == len(proxy.requests) == 2
    assert "cannot be reached: ProxyError" in str(outcome.error)


def test_a_proxy_that_cannot_be_reached_is_named_as_that() -> None:
    """Nothing was sent, so the attempts go on."""
    with running(
        "https://upstream.invalid/{id}", upstream_proxy="http://127.0.0.1:1", max_attempts=1
    ) as service:
        (outcome,) = service.finish(service.send([1]))

    assert "cannot be reached: ProxyError, NewConnectionError" in str(outcome.error)


def test_a_name_that_is_none_was_sent_nothing() -> None:
    with running("http://a..b/{id}", max_attempts=1) as service:
        (outcome,) = service.finish(service.send([1]))

    assert "cannot be reached: LocationParseError" in str(outcome.error)


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
    outcomes = []
    with Scripted(lambda _: cut(OK)) as server, running(server.items) as service:
        for number in range(1, 6):
            outcomes += service.finish(service.send([number]))
            eventually("it has hung up", server.has_hung_up)

    assert [outcome.attempts for outcome in outcomes] == [1] * 5
