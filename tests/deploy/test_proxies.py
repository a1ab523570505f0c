"""Through a proxy everything is as without one, and whoever obeys Retry-After always succeeds."""

import http.client
import itertools
import json
import random
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.crash.raw import head
from tests.crash.server import Answer
from tests.crash.waiting import eventually
from tests.deploy.proxies import DEPLOY, NAME, Proxy
from tests.scale.fleet import Fleet, Member

MILLION = 1_000_000
#: Mappings of 1 kB: more than all the buffers of a system on the way hold.
LARGE = 50_000


def post(proxy: Proxy, ids: range, **headers: str) -> str:
    """Post ids; return the id of the ingestion."""
    return post_body(proxy, {"ids": list(ids), "priority": "LOW"}, headers)


def post_large(proxy: Proxy) -> str:
    """Post what is large to tell; return the id of the ingestion."""
    names = (f"{number:01000}" for number in range(LARGE))
    mappings = [{"id": name, "source": "a", "target": "b"} for name in names]
    return post_body(proxy, {"mappings": mappings, "priority": "LOW"}, {})


def post_body(proxy: Proxy, body: object, headers: Mapping[str, str]) -> str:
    """Post a submission until it is taken; return the id of the ingestion."""
    answer = proxy.request("POST", "/ingest", body, headers)
    while answer.status == 503:
        time.sleep(float(answer.headers["Retry-After"]))
        answer = proxy.request("POST", "/ingest", body, headers)
    assert answer.status == 200, answer
    document = answer.json()
    return str(document.get("ingestion_id") or document["request_id"])


def status(proxy: Proxy, ingestion_id: str, query: str = "") -> Answer:
    """Ask for a status."""
    answer = proxy.request("GET", f"/status/{ingestion_id}{query}")
    assert answer.status == 200, answer
    return answer


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    """Give a stack of connections that are closed after the test."""
    with ExitStack() as stack:
        yield stack


def test_a_million_ids_are_taken(proxy: Proxy) -> None:
    ingestion_id = post(proxy, range(1, MILLION + 1))
    assert status(proxy, ingestion_id).json()["counts"]["total"] == MILLION
    assert proxy.request("POST", f"/ingestions/{ingestion_id}/cancel").status == 200


def test_a_body_above_the_limit_is_refused(proxy: Proxy) -> None:
    assert proxy.request("POST", "/ingest", b" " * (64 * 2**20 + 1)).status == 413


def test_who_waits_is_answered_at_the_change(proxy: Proxy, fleet: Fleet) -> None:
    assert proxy.request("POST", "/queue/pause", {"reason": "a test"}).status == 200
    ingestion_id = post(proxy, range(1, 4))
    answers: list[Answer] = []
    asking = threading.Thread(
        target=lambda: answers.append(status(proxy, ingestion_id, "?wait=60"))
    )
    asking.start()
    eventually(lambda: waiting(fleet) == 1)
    assert answers == []
    assert proxy.request("POST", "/queue/resume").status == 200
    asking.join(60)
    assert answers[0].json()["why_waiting"] != {"code": "paused"}
    eventually(lambda: status(proxy, ingestion_id).json()["outcome"] == "succeeded")


def waiting(fleet: Fleet) -> int:
    """Return how many clients wait for a change at all replicas."""
    total = 0
    for port in fleet.ports:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        total += sum(
            int(float(line.split()[1]))
            for line in text.splitlines()
            if line.startswith("ingest_waiting_long_polls ")
        )
    return total


def test_streams_arrive_in_pieces(proxy: Proxy, fleet: Fleet, crowd: ExitStack) -> None:
    """What nobody has read is still with the replicas, and dies with them."""
    ingestion_id = post_large(proxy)
    eventually(lambda: status(proxy, ingestion_id).json()["finished_at"], 60)
    path = f"/status/{ingestion_id}/results?format="
    streams = []
    for form in ("ndjson", "csv"):
        connection = proxy.connect()
        crowd.callback(connection.close)
        connection.request("GET", path + form, headers={"Host": f"{NAME}:{proxy.port}"})
        streams.append(connection.getresponse())
        assert len(streams[-1].read(1000)) == 1000
    # As long as these take a proxy that keeps answers back would have had for those above.
    assert len(proxy.request("GET", path + "ndjson").body.splitlines()) == LARGE
    assert len(proxy.request("GET", path + "csv").body.splitlines()) == LARGE + 1
    kill(*fleet.replicas)
    for stream in streams:
        with pytest.raises((http.client.IncompleteRead, OSError)):
            stream.read()


@pytest.fixture(autouse=True)
def whole(fleet: Fleet, proxy: Proxy) -> Iterator[None]:
    """Start again what a test has ended, as a supervisor does, and have the proxy see it."""
    yield
    recover(fleet)
    eventually(lambda: proxy.request("GET", "/health/ready").status == 200)


def recover(fleet: Fleet) -> None:
    """Start all replicas that do not run."""
    fleet.tend()
    fleet.await_replicas()


def kill(*replicas: Member) -> None:
    """End replicas without a word."""
    for replica in replicas:
        replica.kill()
        assert replica.process is not None
        replica.process.wait(30)


class Clients:
    """Submit and ask, and come again when told to; whatever else happens is a failure."""

    def __init__(self, proxy: Proxy, seed: int) -> None:
        self._proxy = proxy
        self._random = random.Random(seed)  # noqa: S311
        self._numbers = itertools.count(1)
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(6)]
        self.keys: dict[str, str] = {}
        self.asked = 0
        self.came_again = 0
        self.failed: list[object] = []

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()

    def _run(self) -> None:
        while not self._stopped.is_set():
            key = f"{self._random.getrandbits(64):x}-{next(self._numbers)}"
            answer = self._insist("POST", "/ingest", key)
            if answer is not None:
                self.keys[key] = json.loads(answer)["ingestion_id"]
                self._insist("GET", f"/status/{self.keys[key]}")

    def _insist(self, method: str, path: str, key: str = "") -> bytes | None:
        body = {"ids": [1, 2, 3], "priority": "HIGH"} if method == "POST" else None
        while True:
            try:
                answer = self._proxy.request(method, path, body, {"Idempotency-Key": key})
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(error)
                return None
            self.asked += 1
            if answer.status == 200:
                return answer.body
            if answer.status != 503 or "Retry-After" not in answer.headers:
                self.failed.append(answer)
                return None
            self.came_again += 1
            time.sleep(float(answer.headers["Retry-After"]))


def test_nobody_fails_while_replicas_are_killed(proxy: Proxy, fleet: Fleet) -> None:
    """One after the other; and nothing is taken twice."""
    with Clients(proxy, seed=7) as clients:
        for replica in fleet.replicas:
            before = clients.asked
            eventually(lambda: clients.asked > before + 30, 60)  # noqa: B023
            kill(replica)
            eventually(lambda: clients.asked > before + 60, 60)  # noqa: B023
            recover(fleet)
    assert clients.failed == []
    ids = list(clients.keys.values())
    assert len(ids) > 50
    assert len(set(ids)) == len(ids)
    with psycopg.connect(fleet.journal) as connection:
        made = connection.execute(
            "SELECT count(*) FROM ingestion WHERE id::text = ANY(%s)", [ids]
        ).fetchone()
    assert made == (len(ids),)


def test_without_any_replica_it_says_to_come_again(proxy: Proxy, fleet: Fleet) -> None:
    kill(*fleet.replicas)
    body = {"ids": [1], "priority": "LOW"}
    # What was open before is noticed first.
    proxy.request("GET", "/queue")
    for method, path, sent in (("GET", "/queue", None), ("POST", "/ingest", body)):
        answer = proxy.request(method, path, sent)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1"), answer
        assert answer.headers["Content-Type"].startswith("application/problem+json")
    recover(fleet)
    eventually(lambda: proxy.request("GET", "/queue").status == 200)


def test_what_may_have_been_done_is_not_said_to_be_repeatable(proxy: Proxy, fleet: Fleet) -> None:
    """A replica that dies over a submission without a key: nobody knows."""
    for replica in fleet.replicas:
        replica.freeze(3600)
    answers: list[Answer] = []
    body = {"ids": [1], "priority": "LOW"}
    asking = threading.Thread(target=lambda: answers.append(proxy.request("POST", "/ingest", body)))
    asking.start()
    eventually(lambda: any(unread(port) for port in fleet.ports))
    kill(*fleet.replicas)
    asking.join(60)
    assert answers[0].status == 502
    assert "Retry-After" not in answers[0].headers


def unread(port: int) -> bool:
    """Tell whether something was sent to a port that nobody has read; asks Linux."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    here = f"0100007F:{port:04X}"
    # State 1 is an established connection; the queues are those to send and to be read.
    return any(
        at == here and state == "01" and int(queues.split(":")[1], 16) > 0
        for _, at, _, state, queues, *_ in fields
    )


def test_the_service_learns_the_name_that_clients_use_and_believes_nothing_else(
    proxy: Proxy,
) -> None:
    own = {"Origin": f"https://{NAME}:{proxy.port}", "Sec-Fetch-Site": "same-origin"}
    assert proxy.request("POST", "/queue/resume", headers=own).status == 200
    for lie in (
        {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"},
        {"Origin": f"https://{NAME}", "X-Forwarded-Port": "443"},
        {"Origin": f"http://{NAME}:{proxy.port}", "X-Forwarded-Proto": "http"},
    ):
        assert proxy.request("POST", "/queue/resume", headers=lie).status == 403, lie


def test_rude_clients_keep_nobody_out(proxy: Proxy, crowd: ExitStack) -> None:
    """Idle, half a head, a body that does not end, answers that are not read, no TLS at all."""
    ingestion_id = post(proxy, range(1, 20_001))
    eventually(lambda: status(proxy, ingestion_id).json()["outcome"] == "succeeded", 60)
    results = f"/status/{ingestion_id}/results?format=csv"
    host = f"Host: {NAME}:{proxy.port}\r\n".encode()
    for sent in [
        b"",
        b"GET /health HTTP/1.1\r\nHo",
        b"POST /ingest HTTP/1.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100000\r\n" + host + b"\r\n{",
        b"GET " + results.encode() + b" HTTP/1.1\r\n" + host + b"\r\n",
    ] * 40:
        plain = socket.create_connection(("127.0.0.1", proxy.port), timeout=30)
        crowd.enter_context(plain)
        client = proxy.context.wrap_socket(plain, server_hostname=NAME)
        crowd.enter_context(client)
        client.sendall(sent)
    for _ in range(40):
        half_open = crowd.enter_context(socket.create_connection(("127.0.0.1", proxy.port)))
        half_open.shutdown(socket.SHUT_WR)
    for number in range(20):
        assert proxy.request("GET", "/health/live").status == 200
        post(proxy, range(1, 4), **{"Idempotency-Key": f"polite-{number}"})


def test_what_is_not_tls_is_refused(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as plain:
        plain.sendall(head("GET", "/health"))
        assert b" 400 " in plain.recv(1000).splitlines()[0]
    with pytest.raises(ssl.SSLError):
        ssl.create_default_context().wrap_socket(
            socket.create_connection(("127.0.0.1", proxy.port), timeout=30), server_hostname=NAME
        )


def test_caddy_understands_its_file() -> None:
    """Where it is installed."""
    if shutil.which("caddy") is None:
        pytest.skip("Caddy is not here")
    command = ["caddy", "validate", "--adapter", "caddyfile", "--config", "Caddyfile"]
    ran = subprocess.run(  # noqa: S603
        command, cwd=DEPLOY, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
