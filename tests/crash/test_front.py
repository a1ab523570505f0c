"""Crowds and hostile clients: whoever behaves is answered within five seconds, always."""

import os
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.crash.load import half_stored
from tests.crash.raw import Raw, chunked, head, ids, post, problem, slowest
from tests.crash.server import ROOT, Server
from tests.crash.waiting import eventually

MAX_BODY = 4_000_000
#: What `narrow_wsgi` adds.
ENDLESS = "/endless"
#: Seconds in which everybody who behaves has an answer.
ALIVE = 5.0
_CHUNKED = "Transfer-Encoding: chunked"
_IDLE: dict[str, Any] = {"interval": 3_600, "settle": 3_600}


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    """Give a stack of connections that are closed after the test."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Give a server that stops in time and has not crashed anywhere."""
    server = Server(
        tmp_path / "journal",
        tmp_path / "log",
        app="tests.crash.narrow_wsgi:app",
        max_body=MAX_BODY,
        **_IDLE,
    )
    server.start()
    try:
        yield server
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10
        assert "Traceback" not in server.logged()
    finally:
        server.kill()


def _pid(server: Server) -> int:
    parent = server._process
    assert parent is not None
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text()
    return int(children.split()[0])


def _memory(server: Server) -> int:
    """Return the bytes that the serving process holds."""
    pages = Path(f"/proc/{_pid(server)}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _descriptors(server: Server) -> int:
    return len(list(Path(f"/proc/{_pid(server)}/fd").iterdir()))


def _posts(server: Server) -> None:
    with Raw(server.port) as client:
        client.send(post(ids(3)))
        assert client.answer().status == 200


def test_clients_that_sip_a_stream_hold_up_nobody(server: Server, crowd: ExitStack) -> None:
    """A hundred that take next to nothing of a stream without an end."""
    before = _memory(server)
    for _ in range(100):
        client = crowd.enter_context(Raw(server.port, receive_buffer=4096))
        client.send(head("GET", ENDLESS))
    assert slowest(server.port, 20) < ALIVE
    _posts(server)
    assert _memory(server) - before < 200_000_000


@pytest.mark.parametrize(
    ("pause", "rate", "cut_off"),
    [(4.0, 1_000, True), (0.1, 1_000, False), (4.0, 0, False)],
)
def test_only_who_takes_less_than_is_set_is_cut_off(
    tmp_path: Path, pause: float, rate: int, cut_off: bool
) -> None:
    """With a second instead of thirty: after it a stream without an end has one."""
    server = Server(
        tmp_path / "journal",
        tmp_path / "log",
        "-c",
        str(Path(__file__).parent / "hasty_conf.py"),
        app="tests.crash.narrow_wsgi:app",
        min_response_rate=rate,
        **_IDLE,
    )
    server.start()
    try:
        with Raw(server.port, receive_buffer=65_536) as client:
            client.send(head("GET", ENDLESS))
            ended = False
            until = time.monotonic() + 8
            while not ended and time.monotonic() < until:
                time.sleep(pause)
                pause = 0 if cut_off else pause
                try:
                    ended = not client.socket.recv(200_000)
                except ConnectionResetError:
                    ended = True
            assert ended is cut_off
        assert server.stop() == 0
    finally:
        server.kill()


@pytest.mark.parametrize("begun", [b"", head("POST", "/ingest", "Content-Length: 100") + b"{"])
def test_a_thousand_that_do_not_ask_hold_up_nobody(
    server: Server, crowd: ExitStack, begun: bytes
) -> None:
    """Idle, or in the middle of a body."""
    for _ in range(1_100):
        crowd.enter_context(Raw(server.port)).send(begun)
    assert slowest(server.port, 10) < ALIVE
    _posts(server)
    crowd.close()
    eventually(lambda: _descriptors(server) < 100)


def test_five_thousand_connections_are_just_memory(server: Server, crowd: ExitStack) -> None:
    """Within the limit of descriptors."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = _memory(server)
    for _ in range(min(5_000, most - 500)):
        crowd.enter_context(Raw(server.port))
    assert slowest(server.port, 10) < ALIVE
    _posts(server)
    assert _memory(server) - before < 200_000_000


def test_without_descriptors_the_oldest_arrivals_go(tmp_path: Path, crowd: ExitStack) -> None:
    """And nothing spins: while nothing is asked, nothing is used."""
    server = Server(
        tmp_path / "journal",
        tmp_path / "log",
        **_IDLE,
    )
    server._command = ["/bin/sh", "-c", 'ulimit -n 128; exec "$@"', "sh", *server._command]
    server.start()
    try:
        for begun in (b"", b"GET /hea", head("POST", "/ingest", "Content-Length: 9")):
            for _ in range(100):
                client = crowd.enter_context(Raw(server.port))
                with suppress(OSError):
                    client.send(begun)
        assert slowest(server.port, 10) < ALIVE
        _posts(server)
        used = _processor(server)
        time.sleep(2)
        assert _processor(server) - used < 1
        assert server.stop() == 0
    finally:
        server.kill()


def _processor(server: Server) -> float:
    times = Path(f"/proc/{_pid(server)}/stat").read_text().rpartition(") ")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


def test_chunks_of_a_byte_cost_what_they_weigh(server: Server) -> None:
    """Twice as many cost about twice as much, and end when the client has gone."""

    def cost(count: int) -> float:
        before = _processor(server)
        with Raw(server.port) as client:
            client.send(head("POST", "/ingest", _CHUNKED) + chunked(b" " * count + ids(3), 1))
            assert client.answer().status == 200
        return _processor(server) - before

    few, many = cost(100_000), cost(400_000)
    assert many < 10 * max(few, 0.1)


def test_many_values_are_refused_before_they_are_built(server: Server) -> None:
    """A body of nothing but brackets, five at a time."""
    server.kill()
    server.environment["INGEST_MAX_BODY"] = str(64 * 2**20)
    server.environment["INGEST_MAX_ITEMS"] = "100000"
    server.start()
    before = _memory(server)
    body = b'{"ids": [' + b"[]," * 5_000_000 + b"[]]}"

    def send() -> int:
        with Raw(server.port) as client:
            client.send(post(body))
            answer = client.answer()
            problem(answer)
            return answer.status

    with ThreadPoolExecutor(5) as pool:
        sent = [pool.submit(send) for _ in range(5)]
        assert slowest(server.port, 20) < ALIVE
        assert {each.result() for each in sent} == {413}
    assert _memory(server) - before < 400_000_000
    assert server.request("GET", "/health").json()["active_requests"] == 0


def test_stalled_bodies_make_room_for_others(server: Server, crowd: ExitStack) -> None:
    """Who holds most for longest is refused, not who comes next."""
    stalled = []
    for _ in range(6):
        client = crowd.enter_context(Raw(server.port))
        client.send(head("POST", "/ingest", f"Content-Length: {MAX_BODY}"))
        client.send(b" " * (MAX_BODY - 1))
        stalled.append(client)
    with Raw(server.port) as client:
        client.send(post(ids(3) + b" " * 2_000_000))
        assert client.answer().status == 200
    refused = [client.answer() for client in stalled if not client.is_silent(0.5)]
    assert refused
    for answer in refused:
        assert problem(answer)["type"] == "/problems/not-ready"
        assert answer.headers["Retry-After"]


def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    """stderr is a pipe, and full."""
    server = Server(tmp_path / "journal", tmp_path / "log", **_IDLE)
    read, write = os.pipe()
    process = subprocess.Popen(  # noqa: S603
        server._command, cwd=ROOT, env=server.environment, stderr=write, start_new_session=True
    )
    server._process = process
    try:
        eventually(server._answers)
        with Raw(server.port) as client:
            for _ in range(1_000):
                client.send(post(ids(3)))
                assert client.answer().status == 200
        assert server.request("GET", "/health/ready").status == 200
        # Its parent writes to the same pipe, and may be waiting for it.
        threading.Thread(target=_drain, args=(read,), daemon=True).start()
        assert server.stop() == 0
    finally:
        server.kill()
        os.close(write)


def _drain(descriptor: int) -> None:
    while os.read(descriptor, 65_536):
        pass


def test_streams_that_are_cut_off_leave_nothing_behind(server: Server) -> None:
    """Three hundred in a row, then a hundred at once."""
    before = _descriptors(server)
    for _ in range(300):
        with Raw(server.port) as client:
            client.send(head("GET", ENDLESS))
            client._file.read(1_000)
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(Raw(server.port)).send(head("GET", ENDLESS))
        assert slowest(server.port, 10) < ALIVE
    eventually(lambda: _descriptors(server) <= before + 5)
    used = _processor(server)
    time.sleep(1)
    assert _processor(server) - used < 0.5


def test_a_large_request_may_follow_an_answer_at_once(server: Server) -> None:
    """Also when it arrives before the server has put the last one away."""
    large = post(ids(3) + b" " * 1_000_000)
    for _ in range(20):
        with Raw(server.port) as client:
            client.send(post(ids(3)) + large + large + head("GET", "/health"))
            assert [client.answer().status for _ in range(4)] == [200] * 4


def test_a_client_may_close_its_half(server: Server) -> None:
    """All that it has asked by then is answered."""
    with Raw(server.port) as client:
        client.send(head("GET", "/health") + post(ids(3)) + head("GET", "/queue"))
        client.socket.shutdown(socket.SHUT_WR)
        assert [client.answer().status for _ in range(3)] == [200, 200, 200]
        assert client.is_closed()


@pytest.mark.parametrize("size", [0, 300_000], ids=["small", "large"])
def test_a_body_before_a_closed_half_is_read(server: Server, size: int) -> None:
    """Though the end comes along with it; pipelined ones are answered in order."""
    for _ in range(20):
        with Raw(server.port) as client:
            client.send((post(ids(3) + b" " * size)) * 2)
            client.socket.shutdown(socket.SHUT_WR)
            assert [client.answer().status for _ in range(2)] == [200, 200]


def test_waiters_behind_one_another_that_close_their_half_are_answered(server: Server) -> None:
    posted = server.request("POST", "/ingest", {"ids": [1], "priority": "LOW"})
    asking = head("GET", f"/status/{posted.json()['ingestion_id']}?wait=20")
    with Raw(server.port) as client:
        client.send(asking * 3)
        client.socket.shutdown(socket.SHUT_WR)
        assert [client.answer().status for _ in range(3)] == [200] * 3


def test_a_waiter_that_closes_its_half_is_answered(server: Server) -> None:
    """It may have gone altogether; nobody waits for it."""
    posted = server.request("POST", "/ingest", {"ids": [1], "priority": "LOW"})
    with Raw(server.port) as client:
        client.send(head("GET", f"/status/{posted.json()['ingestion_id']}?wait=5"))
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer().status == 200


@pytest.mark.parametrize("known", [False, True], ids=["any answer", "only news"])
def test_a_waiter_is_answered_at_the_first_change(server: Server, known: bool) -> None:
    """And not before, whether or not it says what it knows already."""
    posted = server.request("POST", "/ingest", {"ids": [1], "priority": "LOW"})
    ingestion_id = posted.json()["ingestion_id"]
    now = server.request("GET", f"/status/{ingestion_id}")
    etag = [f"If-None-Match: {now.headers['ETag']}"] if known else []
    with Raw(server.port) as client:
        client.send(head("GET", f"/status/{ingestion_id}?wait=50", *etag))
        assert client.is_silent(0.5)
        assert server.request("POST", f"/ingestions/{ingestion_id}/cancel").status == 200
        answer = client.answer()

    assert answer.status == 200
    assert answer.json()["outcome"] == "cancelled"


@pytest.mark.parametrize(
    "path", ["/", "/health", "/health/ready", "/queue", "/ingestions", "/docs", "/nowhere"]
)
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_head_and_options_keep_the_connection(server: Server, method: str, path: str) -> None:
    """No body follows a HEAD, whatever its length says."""
    with Raw(server.port) as client:
        client.send(head(method, path))
        line = client._file.readline()
        assert line.split()[1] in (b"200", b"404")
        length = 0
        while (field := client._file.readline().lower()) != b"\r\n":
            if field.startswith(b"content-length:") and method != "HEAD":
                length = int(field.split()[1])
        client._file.read(length)
        client.send(head("GET", "/health"))
        assert client.answer().status == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (head("POST", "/ingest", "Content-Length: 5") + b"hello", 400),
        (head("POST", "/ingest", "Content-Length: 5", "Content-Encoding: gzip") + b"hello", 415),
        (head("POST", "/ingest", "Content-Length: 5", "Origin: null") + b"hello", 403),
        (head("PUT", "/ingest", "Content-Length: 5") + b"hello", 405),
        (head("GET", "/status/x", "Content-Length: 5") + b"hello", 404),
        (head("GET", "/queue").replace(b"localhost", b"evil.example"), 403),
        (head("GET", "/queue").replace(b"Host: localhost\r\n", b""), 400),
    ],
)
def test_a_refusal_keeps_the_connection(server: Server, request_: bytes, status: int) -> None:
    """Where the end of the request is known and near."""
    with Raw(server.port) as client:
        for _ in range(3):
            client.send(request_)
            assert client.answer().status == status
        client.send(post(ids(3)))
        assert client.answer().status == 200


def test_a_stop_does_not_wait_for_open_connections(server: Server, crowd: ExitStack) -> None:
    """Idle ones, half heads, half bodies, waiters and streams."""
    posted = server.request("POST", "/ingest", {"ids": [1], "priority": "LOW"})
    waits = head("GET", f"/status/{posted.json()['ingestion_id']}?wait=30")
    for begun in (b"", b"GET /hea", head("POST", "/ingest", "Content-Length: 9"), waits):
        for _ in range(10):
            crowd.enter_context(Raw(server.port)).send(begun)
    for _ in range(10):
        crowd.enter_context(Raw(server.port, 4096)).send(head("GET", ENDLESS))
    # The fixture stops it, in ten seconds at most.


@pytest.mark.parametrize("turn", range(3))
def test_what_was_answered_survives_a_kill_under_load(tmp_path: Path, turn: int) -> None:
    """Ten times in a row, from sixteen connections."""
    server = Server(tmp_path / "journal", tmp_path / "log", **_IDLE)
    answered: list[str] = []

    def send(over: threading.Event) -> None:
        broken = suppress(OSError, HTTPException, AssertionError, ValueError)
        with broken, Raw(server.port) as client:
            while not over.is_set():
                client.send(post(ids(5)))
                answer = client.answer()
                if answer.status == 200:
                    answered.append(answer.json()["ingestion_id"])

    for _ in range(10):
        server.start()
        over = threading.Event()
        threads = [threading.Thread(target=send, args=(over,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        time.sleep(0.2 + 0.05 * turn)
        server.kill()
        over.set()
        for thread in threads:
            thread.join()
    assert len(answered) > 100
    server.start()
    with Raw(server.port) as client:
        for ingestion_id in answered:
            client.send(head("GET", f"/status/{ingestion_id}?limit=1"))
            assert client.answer().status == 200
    assert server.stop() == 0


def test_a_commit_that_fails_is_a_503_and_nothing_is_stored(tmp_path: Path) -> None:
    """Under load and again and again; whoever was answered 200 is there after a kill."""
    server = Server(
        tmp_path / "journal", tmp_path / "log", app="tests.crash.faulty_wsgi:app", **_IDLE
    )
    server.start()
    answered: list[str] = []
    refused: list[Any] = []

    def send() -> None:
        with Raw(server.port) as client:
            for _ in range(100):
                client.send(post(ids(5)))
                answer = client.answer()
                if answer.status == 200:
                    answered.append(answer.json()["ingestion_id"])
                else:
                    refused.append(problem(answer))

    try:
        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert server.request("GET", "/break").status == 200
        for thread in threads:
            thread.join()
        assert {each["type"] for each in refused} == {"/problems/storage-unavailable"}
        assert len(answered) + len(refused) == 800
        # The last fault may still be waiting for somebody.
        server.request("POST", "/ingest", {"ids": [1], "priority": "LOW"})
        _posts(server)
    finally:
        server.kill()
    server = Server(tmp_path / "journal", tmp_path / "log", **_IDLE)
    server.start()
    try:
        for ingestion_id in answered:
            assert server.request("GET", f"/status/{ingestion_id}").status == 200
        stored = server.request("GET", "/health").json()["active_requests"]
        assert stored - len(answered) in (1, 2)
        assert server.stop() == 0
    finally:
        server.kill()
    assert half_stored(server.journal) == []


def test_all_threads_share_one_heap(server: Server) -> None:
    """A heap each kept the most that each ever needed, and the process grew for hours."""
    with ThreadPoolExecutor(8) as clients:
        body = {"ids": [*range(1, 1_000)], "priority": "LOW"}
        posts = [clients.submit(server.request, "POST", "/ingest", body) for _ in range(40)]
        assert {post.result().status for post in posts} == {200}
    # glibc reserves 64 MiB of addresses for every further one.
    maps = [line.split() for line in Path(f"/proc/{_pid(server)}/maps").read_text().splitlines()]
    spans = [(line[1], [int(end, 16) for end in line[0].split("-")]) for line in maps]
    reserved = [end - start for rights, (start, end) in spans if rights == "---p"]
    assert not [size for size in reserved if 32 * 2**20 < size < 64 * 2**20]
