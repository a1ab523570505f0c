"""Where a request ends is as the rules say, so that nobody slips one into another."""

from collections.abc import Iterator

import pytest

from tests.crash.raw import Raw, chunked, head, ids, post, problem
from tests.crash.server import Server, well_behaved

_CHUNKED = "Transfer-Encoding: chunked"
_IDS = ids(3)
_LENGTH = f"Content-Length: {len(_IDS)}"
_HEAD = b"Host: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give one server for the whole table."""
    folder = tmp_path_factory.mktemp("framing")
    server = Server(folder / "journal", folder / "log", interval=3_600, settle=3_600)
    with well_behaved(server):
        yield server


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (head("POST", "/ingest", _CHUNKED) + chunked(_IDS, 9, b"X-Sum: 1\r\n"), 200),
        (head("POST", "/ingest", _CHUNKED) + chunked(_IDS, 9, b"Content-Length: 5\r\n"), 400),
        (head("POST", "/ingest", _CHUNKED) + chunked(_IDS, 9, b"Transfer-Encoding: x\r\n"), 400),
        (head("POST", "/ingest", _CHUNKED) + chunked(_IDS, 9, b"Host: other\r\n"), 400),
        (head("POST", "/queue/resume", _CHUNKED) + chunked(b"", 9, b"Host: other\r\n"), 400),
        (head("POST", "/ingest", _CHUNKED) + chunked(_IDS, 9, b"X-Sum:\r\nX-B: \xe9\r\n"), 200),
        (head("POST", "/ingest", _CHUNKED) + chunked(_IDS, 9, b"X-A: 1\r\nnonsense\r\n"), 400),
        (head("POST", "/ingest", _CHUNKED) + chunked(_IDS, 9, b"X Sum: 1\r\n"), 400),
        (head("POST", "/ingest", _CHUNKED) + chunked(_IDS, 9, b"X-Sum : 1\r\n"), 400),
        (head("POST", "/ingest", _CHUNKED) + chunked(_IDS, 9, b"X-A: 1\r\n folded\r\n"), 400),
        (head("POST", "/ingest", _CHUNKED) + chunked(_IDS, 9, b": 1\r\n"), 400),
        (head("POST", "/ingest", _CHUNKED) + chunked(_IDS, 9, b"X-Sum: \x00\r\n"), 400),
        (head("POST", "/ingest", _CHUNKED) + chunked(_IDS, 9, b"0\r\n"), 400),
        (b"\r\n" + head("POST", "/ingest", _CHUNKED) + chunked(_IDS, 9, b"nonsense\r\n"), 400),
        (head("POST", "/queue/resume", _CHUNKED) + chunked(b"", 9, b"nonsense\r\n"), 400),
        (head("POST", "/ingest", "Transfer-Encoding: gzip, chunked") + chunked(_IDS, 9), 400),
        (head("POST", "/ingest", "Transfer-Encoding: chunked, chunked") + chunked(_IDS, 9), 400),
        (head("POST", "/ingest", "Transfer-Encoding: identity") + _IDS, 400),
        (head("POST", "/ingest", _CHUNKED, _CHUNKED) + chunked(_IDS, 9), 400),
        (head("POST", "/ingest", "Transfer-Encoding: CHUNKED") + chunked(_IDS, 9), 200),
        (
            b"POST /ingest HTTP/1.0\r\n" + _HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"POST //ingest HTTP/1.1\r\n" + _HEAD + _LENGTH.encode() + b"\r\n\r\n" + _IDS, 200),
        (b"GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"GET http://evil.example/queue HTTP/1.1\r\nHost: localhost\r\n\r\n", 403),
        (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /health HTTP/1.1\nHost: localhost\n\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\rX: y\r\n\r\n", 400),
        (b"GET /health HTTP/2.0\r\nHost: localhost\r\n\r\n", 400),
        (b"get /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"FOO /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (head("POST", "/ingest", _LENGTH, _LENGTH) + _IDS, 400),
        (head("POST", "/ingest", "Content-Length: 5, 5") + _IDS, 400),
        (head("POST", "/ingest", _LENGTH, _CHUNKED) + chunked(_IDS, 9), 400),
        (head("POST", "/ingest", _LENGTH, "Content_Length: 5") + _IDS, 200),
        (head("POST", "/ingest", _CHUNKED) + b"3\r\nabcde\r\n0\r\n\r\n", 400),
        (head("POST", "/ingest", _CHUNKED) + b"3\nabc\n0\n\n", 400),
        (head("GET", "/health", "Connection: Upgrade", "Upgrade: websocket"), 200),
        (b"\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (head("POST", "/ingest", "Origin: http://evil.example", _LENGTH) + _IDS, 403),
        (head("POST", "/ingest", "Sec-Fetch-Site: cross-site", _LENGTH) + _IDS, 403),
    ],
)
def test_what_the_rules_say_about_framing(server: Server, request_: bytes, status: int) -> None:
    """RFC 9110 and 9112; a refusal changes nothing, and what follows is no request of it."""
    known = server.request("GET", "/health").json()["active_requests"]
    with Raw(server.port) as client:
        client.send(request_)
        line = client.answer()
        assert line.status == status
        if status >= 400:
            problem(line)
        assert not any(letter.isdigit() for letter in line.headers.get("Server", ""))
    accepted = server.request("GET", "/health").json()["active_requests"] - known
    assert accepted == (status == 200 and request_.startswith(b"POST"))


@pytest.mark.parametrize(("trailer", "status"), [(b"X-Sum: 1\r\n", 200), (b"nonsense\r\n", 400)])
@pytest.mark.parametrize("before", [b"", post(_IDS)], ids=["first", "behind another"])
def test_trailers_are_looked_at_however_they_arrive(
    server: Server, before: bytes, trailer: bytes, status: int
) -> None:
    """Byte by byte, or in one piece with what comes before."""
    request = head("POST", "/ingest", _CHUNKED) + chunked(_IDS, 9, trailer)
    for in_pieces in (False, True):
        known = server.request("GET", "/health").json()["active_requests"]
        with Raw(server.port) as client:
            client.send(before)
            (client.send_each if in_pieces else client.send)(request)
            if before:
                assert client.answer().status == 200
            assert client.answer().status == status
        accepted = server.request("GET", "/health").json()["active_requests"] - known
        assert accepted == bool(before) + (status == 200)


def test_a_body_may_come_behind_the_answer_that_refuses_it(server: Server) -> None:
    """It is read as what it is, and the connection is as good as before."""
    refused = head("POST", "/ingest", "Content-Length: 5000", "Content-Encoding: gzip")
    with Raw(server.port) as client:
        for _ in range(2):
            client.send(refused)
            assert client.answer().status == 415
            client.send(head("GET", "/status/x").ljust(5_000))
        client.send(post(_IDS))
        assert client.answer().status == 200
