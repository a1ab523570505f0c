"""`kill -9` again and again: nothing is lost, nothing doubled, and the pace is kept."""

import http.client
import json
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, pairwise
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest

from ingest_service.engines.embedded.journals.files import verify
from tests.crash.load import half_stored
from tests.crash.server import RECORD, Server
from tests.crash.waiting import eventually

INTERVAL = 0.2
CLIENTS = 4


class Start(NamedTuple):
    """A batch that reached the upstream."""

    at: float
    batch_id: str
    ids: list[int]


@dataclass
class Clients:
    """Threads that post until they are told to stop, and give up no request."""

    server: Server
    #: The ids posted under each key, and every answer to it.
    posted: dict[str, list[int]] = field(default_factory=dict)
    answers: dict[str, set[str]] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _stopping: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def posting(self) -> Iterator[None]:
        """Post meanwhile; return when every request was acknowledged."""
        threads = [threading.Thread(target=self._post_all) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join(60)
        assert not any(thread.is_alive() for thread in threads)

    def post(self, key: str) -> bool:
        """Post what belongs to `key`; return whether that was acknowledged."""
        body = {"ids": self.posted[key], "priority": "MEDIUM"}
        try:
            answer = self.server.request("POST", "/ingest", body, {"Idempotency-Key": key})
        except (OSError, http.client.HTTPException):
            return False
        if answer.status != 200:
            self.unexpected.append(f"{answer.status} {answer.body!r}")
            return False
        self.answers[key].add(answer.json()["ingestion_id"])
        return True

    def _post_all(self) -> None:
        chance = random.Random()  # noqa: S311
        while not self._stopping.is_set():
            key = str(uuid.uuid4())
            self.posted[key] = [next(self._numbers) for _ in range(chance.randint(1, 7))]
            self.answers[key] = set()
            while not self.post(key):
                time.sleep(0.02)
            time.sleep(0.1)


@contextmanager
def recorded_in_a_file(folder: Path) -> Iterator[tuple[Server, Callable[[], list[Start]]]]:
    """Give a server whose upstream is a file."""
    server = Server(
        folder / "journal",
        folder / "log",
        app="tests.crash.recording_wsgi:app",
        interval=INTERVAL,
        settle=0.05,
        simulated_latency=0.02,
    )
    record = folder / "record"
    server.environment[RECORD] = str(record)
    record.touch()
    yield server, lambda: [Start(*json.loads(line)) for line in record.read_text().splitlines()]


@contextmanager
def recorded_over_http(folder: Path) -> Iterator[tuple[Server, Callable[[], list[Start]]]]:
    """Give a server whose upstream is an HTTP server of ours."""
    starts: list[Start] = []

    class Recorder(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            now = time.monotonic()
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            starts.append(Start(now, sent["batch_id"], sent["ids"]))
            time.sleep(0.02)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    thread = threading.Thread(target=upstream.serve_forever)
    thread.start()
    url = f"batch+http://127.0.0.1:{upstream.server_port}/"
    try:
        yield (
            Server(
                folder / "journal",
                folder / "log",
                interval=INTERVAL,
                settle=0.05,
                upstream=url,
                backoff=0.05,
            ),
            lambda: sorted(starts),
        )
    finally:
        upstream.shutdown()
        thread.join()
        upstream.server_close()


def test_a_server_that_is_back_before_the_interval_is_over_waits_for_the_rest(
    tmp_path: Path,
) -> None:
    """Killed right after a start, six times: the next start comes no earlier for that."""
    with recorded_in_a_file(tmp_path) as (server, starts):
        try:
            began = time.monotonic()
            server.start()
            # Long enough to be back in time on a machine that has much else to do.
            interval = min(max(2.0, 3 * (time.monotonic() - began)), 10.0)
            server.kill()
            server.environment["INGEST_INTERVAL"] = str(interval)
            server.start()
            body = {"ids": list(range(1, 100)), "priority": "LOW"}
            assert server.request("POST", "/ingest", body).status == 200
            quick = 0
            for _ in range(6):
                known = len(starts())
                eventually(lambda known=known: len(starts()) > known)  # type: ignore[misc]
                at = starts()[-1].at
                server.kill()
                server.start()
                quick += time.monotonic() < at + interval
            eventually(lambda: len(starts()) > 6)
        finally:
            server.kill()
        assert quick >= 3, "this machine starts too slowly to tell anything"
        assert (
            min(later.at - earlier.at for earlier, later in pairwise(starts())) >= interval - 0.02
        )


@pytest.mark.parametrize(
    ("recorded", "kills"),
    [(recorded_in_a_file, 30), (recorded_over_http, 10)],
    ids=["file", "http"],
)
def test_kills_lose_nothing_double_nothing_and_keep_the_pace(
    tmp_path: Path, recorded: Callable[..., object], kills: int
) -> None:
    """Clients that retry under a key get one ingestion a key, whatever happens to the server."""
    chance = random.Random(kills)  # noqa: S311
    with recorded(tmp_path) as (server, starts):  # type: ignore[attr-defined]
        clients = Clients(server)
        try:
            server.start()
            with clients.posting():
                for kill in range(kills):
                    time.sleep(chance.random())
                    server.kill()
                    if kill % 4 == 3:
                        # Once more while it starts.
                        server.launch()
                        time.sleep(chance.random())
                        server.kill()
                    server.start()
            before = len(starts())
            server.kill()
            # The rest without a pace, otherwise it would take minutes.
            server.environment |= {"INGEST_INTERVAL": "0", "INGEST_MAX_CONCURRENT_BATCHES": "16"}
            server.start()
            eventually(lambda: server.request("GET", "/health").json()["active_requests"] == 0, 60)
            for key in clients.posted:
                assert clients.post(key)
            assert server.stop() == 0
        finally:
            server.kill()

        sent = starts()
    assert clients.unexpected == []
    assert_nothing_lost_or_doubled(server, clients)
    assert_sent_once(clients, sent, kills + kills // 4 + 1)
    gaps = [later.at - earlier.at for earlier, later in pairwise(sent[:before])]
    assert min(gaps) >= INTERVAL - 0.02
    # As fast as it may, too: the pace is no slower than the restarts make it.
    assert before > kills


def assert_nothing_lost_or_doubled(server: Server, clients: Clients) -> None:
    """Assert that there is exactly one ingestion a key, complete and known to its client."""
    ids = [ingestion_id for answered in clients.answers.values() for ingestion_id in answered]
    assert all(len(answered) == 1 for answered in clients.answers.values())
    assert verify(str(server.journal)) == (len(clients.posted), 0)
    assert half_stored(server.journal) == []
    db = apsw.Connection(str(server.journal))
    stored = {each for (each,) in db.execute("SELECT ingestion_id FROM ingestion")}
    db.close()
    assert stored == set(ids)
    assert len(ids) == len(set(ids))


def assert_sent_once(clients: Clients, sent: list[Start], kills: int) -> None:
    """Assert that every id was sent, and twice only what was in flight when it was killed."""
    batches_of: dict[int, set[str]] = {}
    for start in sent:
        for each in start.ids:
            batches_of.setdefault(each, set()).add(start.batch_id)
    assert batches_of.keys() == {each for ids in clients.posted.values() for each in ids}
    assert all(len(batches) == 1 for batches in batches_of.values())
    again = sum(times - 1 for times in Counter(start.batch_id for start in sent).values())
    assert again <= kills
