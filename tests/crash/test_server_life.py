"""Starting, stopping and refusing to start, with the real server."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest

from ingest_service.engines.embedded.journals.files import verify
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.errors import JournalUnusable
from tests.crash.load import Ledger
from tests.crash.raw import Raw, head
from tests.crash.server import RECORD, Server
from tests.crash.waiting import eventually

INTERVAL = 2.0

MakeServer = Callable[..., Server]


class Start(NamedTuple):
    """A batch that reached the upstream."""

    at: float
    batch_id: str
    ids: list[int]


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    """Give a function that makes servers, all of which are gone after the test."""
    made: list[Server] = []

    def make(
        *options: str,
        journal: str = "journal",
        app: str = "tests.crash.recording_wsgi:app",
        **settings: object,
    ) -> Server:
        values = {"interval": INTERVAL, "settle": 0.1, "simulated_latency": 0.02} | settings
        log = tmp_path / f"log {len(made)}"
        server = Server(tmp_path / journal, log, *options, app=app, **values)
        server.environment[RECORD] = str(tmp_path / "record")
        made.append(server)
        return server

    yield make
    for server in made:
        server.kill()


@pytest.fixture
def starts(tmp_path: Path) -> Callable[[], list[Start]]:
    """Give a function that returns what was started so far."""
    record = tmp_path / "record"

    def read() -> list[Start]:
        lines = record.read_text().splitlines() if record.exists() else []
        return [Start(*json.loads(line)) for line in lines]

    return read


def post(server: Server, ids: range, priority: str = "MEDIUM") -> str:
    """Post ids; return the id of the ingestion."""
    answer = server.request("POST", "/ingest", {"ids": list(ids), "priority": priority})
    assert answer.status == 200
    return str(answer.json()["ingestion_id"])


def counts(server: Server, ingestion_id: str) -> dict[str, int]:
    """Return how many items of an ingestion are where."""
    found: dict[str, int] = server.request("GET", f"/status/{ingestion_id}").json()["counts"]
    return found


def test_a_stop_ends_the_batch_in_flight_and_starts_no_other(
    make_server: MakeServer, starts: Callable[[], list[Start]]
) -> None:
    """SIGTERM: not ready, no new work, status still told; the rest goes on after the next start."""
    server = make_server(simulated_latency=1.2)
    server.start()
    low = post(server, range(1, 10), "LOW")
    eventually(starts)
    high = post(server, range(101, 107), "HIGH")
    server.signal(signal.SIGTERM)
    eventually(lambda: server.request("GET", "/health/ready").status == 503)
    assert server.request("POST", "/ingest", {"ids": [1], "priority": "HIGH"}).status == 503
    assert counts(server, low)["in_flight"] == 3
    assert server.wait() == 0
    assert len(starts()) == 1
    checked = server.command("check")
    assert checked.returncode == 0
    assert "sound; 2 ingestions, 2 of them unfinished" in checked.stdout

    server.start()
    assert counts(server, low)["succeeded"] == 3
    eventually(lambda: len(starts()) == 5)
    assert [start.ids for start in starts()] == [
        [1, 2, 3],
        [101, 102, 103],
        [104, 105, 106],
        [4, 5, 6],
        [7, 8, 9],
    ]
    gaps = [later.at - earlier.at for earlier, later in pairwise(starts())]
    assert min(gaps) >= INTERVAL - 0.02
    eventually(lambda: counts(server, low)["succeeded"] + counts(server, high)["succeeded"] == 15)
    assert server.stop() == 0
    assert "Traceback" not in server.logged()


def test_a_stop_does_not_wait_for_clients_that_send_nothing(make_server: MakeServer) -> None:
    """Idle connections are closed at once, half-sent requests two seconds later."""
    server = make_server()
    server.start()
    with ExitStack() as clients:
        for begun in (b"", b"GET /hea", head("POST", "/ingest", "Content-Length: 9")):
            clients.enter_context(Raw(server.port)).send(begun)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 8.0


def test_a_batch_that_outlasts_the_stop_is_sent_again(
    make_server: MakeServer, starts: Callable[[], list[Start]]
) -> None:
    """The grace is limited; what did not end in it has the same batch id when it is repeated."""
    server = make_server("--graceful-timeout", "4", simulated_latency=1_000)
    server.start()
    ingestion_id = post(server, range(1, 4))
    eventually(starts)
    assert server.stop() == 0
    server.environment["INGEST_SIMULATED_LATENCY"] = "0"
    server.start()
    eventually(lambda: counts(server, ingestion_id)["succeeded"] == 3)
    first, second = starts()
    assert first.batch_id == second.batch_id
    assert server.stop() == 0


def test_a_batch_that_never_ends_fails_after_three_crashes(
    make_server: MakeServer, starts: Callable[[], list[Start]]
) -> None:
    """What kills the process every time is not sent for ever."""
    server = make_server(interval=0.1, simulated_latency=1_000)
    server.start()
    ingestion_id = post(server, range(1, 4))
    for times in (1, 2, 3):
        eventually(lambda times=times: len(starts()) == times)  # type: ignore[misc]
        server.kill()
        server.start()
    eventually(lambda: counts(server, ingestion_id)["failed"] == 3)
    found = server.request("GET", f"/status/{ingestion_id}/results").json()
    assert found["status"] == "completed"
    assert {each["error"] for each in found["results"]} == {"crashed"}
    assert len(starts()) == 3
    assert server.stop() == 0


def test_a_second_process_on_the_same_journal_refuses_in_words(make_server: MakeServer) -> None:
    """The first one does not notice."""
    first = make_server(interval=0.2)
    first.start()
    ingestion_id = post(first, range(1, 31))
    second = make_server(app="wsgi:app")
    assert_refuses(second, "another process uses this journal")
    eventually(lambda: counts(first, ingestion_id)["succeeded"] == 30)
    assert first.stop() == 0
    assert "Traceback" not in first.logged()


def assert_refuses(server: Server, reason: str) -> None:
    """Assert that the server ends soon, as docs/command.md says, and says why in one line."""
    began = time.monotonic()
    server.launch()
    assert server.wait(10.0) == 2
    assert time.monotonic() - began < 8.0
    said = [line for line in server.logged().splitlines() if line.startswith("ingest_service:")]
    assert len(said) == 1
    assert reason in said[0]
    assert "Traceback" not in server.logged()


def filled(path: Path) -> Ledger:
    """Write a journal with some content, all of it in the file itself."""
    ledger = Ledger()
    with closing(SqliteJournal(path)) as journal:
        for size in (5, 3_000, 7, 20_000, 1):
            ingestion = ledger.accept(journal, size)
            if size < 10:
                ledger.work(journal, ingestion)
    return ledger


def overwrite(path: Path, offset: int, content: bytes) -> None:
    """Damage a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


@pytest.mark.parametrize("where", ["header", "middle"])
def test_a_damaged_journal_is_refused_with_what_to_do(make_server: MakeServer, where: str) -> None:
    """One line, no traceback, and the file stays as it is."""
    server = make_server(app="wsgi:app")
    filled(server.journal)
    at = 0 if where == "header" else server.journal.stat().st_size // 2 // 4096 * 4096
    overwrite(server.journal, at, b"\xa5" * 4096)
    before = server.journal.read_bytes()
    assert_refuses(server, "put a backup in its place")
    assert server.journal.read_bytes() == before
    checked = server.command("check")
    assert checked.returncode == 1
    assert "put a backup in its place" in checked.stderr


@pytest.mark.parametrize("content", [b"\xa5" * 4096, bytes(4096)], ids=["garbage", "zeros"])
def test_damage_in_any_page_is_found_or_harms_nothing(tmp_path: Path, content: bytes) -> None:
    """Each page in turn: refused in words, by the start or by the check, or nothing is missing."""
    sound = tmp_path / "sound"
    ledger = filled(sound)
    pages = sound.stat().st_size // 4096
    found = 0
    for page in range(pages):
        path = tmp_path / f"damaged {page}"
        shutil.copy(sound, path)
        overwrite(path, page * 4096, content)
        try:
            with closing(SqliteJournal(path)) as journal:
                journal.recover()
            verify(str(path))
        except JournalUnusable as error:
            assert str(error).count("\n") == 0  # noqa: PT017 - both ways are fine
            found += 1
            continue
        with suppress(apsw.Error):
            # A page of a blob: nobody can tell that its bytes are others.
            assert ledger.lost(path) <= 1
    assert found > pages / 4


def test_a_journal_of_a_newer_version_is_refused_politely(make_server: MakeServer) -> None:
    """Nothing is changed in what an older version does not understand."""
    server = make_server(app="wsgi:app")
    filled(server.journal)
    with closing(apsw.Connection(str(server.journal))) as db:
        db.execute("PRAGMA user_version = 999").fetchall()
    assert_refuses(server, "written by a newer version")


def test_a_journal_in_a_missing_folder_is_refused(make_server: MakeServer) -> None:
    """The line says so, and not that a folder is missing."""
    assert_refuses(
        make_server(app="wsgi:app", journal="missing/journal"), "is the folder there and writable?"
    )


def test_a_journal_in_a_file_instead_of_a_folder_is_refused(
    make_server: MakeServer, tmp_path: Path
) -> None:
    """The line says so, and not that a folder is missing."""
    (tmp_path / "file").touch()
    assert_refuses(
        make_server(app="wsgi:app", journal="file/journal"), "is the folder there and writable?"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_journal_in_a_read_only_folder_is_refused(
    make_server: MakeServer, tmp_path: Path
) -> None:
    """The line says so, and not that a folder is missing."""
    (tmp_path / "locked").mkdir(mode=0o500)
    assert_refuses(
        make_server(app="wsgi:app", journal="locked/journal"), "is the folder there and writable?"
    )


def test_a_journal_that_is_a_folder_is_refused(make_server: MakeServer) -> None:
    """The line says so, and not that a folder is missing."""
    server = make_server(app="wsgi:app")
    server.journal.mkdir()
    assert_refuses(server, "it is a folder; name a file.")


def test_a_backup_of_a_running_service_can_be_gone_back_to(
    make_server: MakeServer, tmp_path: Path
) -> None:
    """All that was acknowledged before the backup is in it, and goes on from there."""
    server = make_server(interval=0.1)
    server.start()
    ids = [post(server, range(n * 100 + 1, n * 100 + 7)) for n in range(5)]
    eventually(lambda: counts(server, ids[0])["succeeded"])
    target = tmp_path / "backup"
    made = server.command("backup", str(target))
    assert made.returncode == 0, made.stderr
    assert server.command("backup", str(target)).returncode == 2
    assert verify(str(target))[0] == 5
    server.kill()
    for leftover in tmp_path.glob("journal*"):
        leftover.unlink()
    shutil.copy(target, server.journal)
    server.start()
    for each in ids:
        eventually(lambda each=each: counts(server, each)["succeeded"] == 6)  # type: ignore[misc]
    assert server.stop() == 0
    assert "sound; 5 ingestions, 0 of them unfinished" in server.command("check").stdout


def test_a_wrong_worker_is_named(tmp_path: Path) -> None:
    """The start-up check, with a gunicorn that lacks something."""
    script = (
        "import sys; from gunicorn.asgi.protocol import ASGIProtocol as P; "
        "del P._close_transport; from gunicorn.app.wsgiapp import run; "
        "sys.argv = ['gunicorn', 'wsgi:app']; run()"
    )
    server = Server(tmp_path / "journal", tmp_path / "log")
    server._command = [sys.executable, "-c", script]
    server.launch()
    assert server.wait() != 0
    assert "it lacks ASGIProtocol._close_transport" in server.logged()
    assert "Traceback" not in server.logged()
