"""Disks that are full, broken, locked or read-only: refused in words, and healed by themselves."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest
from flask.testing import FlaskClient

from ingest_service.app import Parts, build, create_app
from ingest_service.domain.model import Batch, Outcome
from ingest_service.domain.retry_policy import CircuitBreaker, RetryPolicy
from ingest_service.domain.settlement import decide
from ingest_service.engines import Slot
from ingest_service.engines.audit import AuditQuery
from ingest_service.engines.embedded.dispatch import EmbeddedDispatch
from ingest_service.engines.embedded.journals.files import verify
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.settings import Settings
from ingest_service.upstreams.protocol import Call, FinishedCall
from tests.crash.faults import FaultyDisk, Operation
from tests.crash.load import half_stored
from tests.crash.waiting import eventually


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    """Give a disk that works until it is told not to."""
    made = FaultyDisk()
    yield made
    made.unregister()


@dataclass
class WatchedUpstream:
    """Succeeds at once, and looks up in the file whether each start was recorded before."""

    path: Path
    latency: float | None = 0.0
    starts: list[str] = field(default_factory=list)
    unrecorded: list[str] = field(default_factory=list)

    def trouble(self) -> str | None:
        return None

    def start(self, batch: Batch, on_end: Callable[[], None]) -> Call:
        db = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
        known = db.execute(
            "SELECT count(*) FROM start WHERE sequence = ? AND batch = ?",
            (batch.sequence, batch.index),
        ).fetchall()
        db.close()
        self.starts.append(batch.batch_id)
        if known == [(0,)]:
            self.unrecorded.append(batch.batch_id)
        return FinishedCall([Outcome(succeeded=True) for _ in batch.items])


@dataclass
class Service:
    """The whole service on a journal, as a client sees it."""

    client: FlaskClient
    upstream: WatchedUpstream
    posted: list[str] = field(default_factory=list)

    def post(self, count: int = 3) -> Any:
        """Post ids; return the answer."""
        answer = self.client.post("/ingest", json={"ids": list(range(1, count + 1))} | MEDIUM)
        if answer.status_code == 200:
            self.posted.append(answer.get_json()["ingestion_id"])
        return answer

    def done(self) -> bool:
        """Tell whether everything accepted is completed."""
        return all(
            self.client.get(f"/status/{each}").get_json()["status"] == "completed"
            for each in self.posted
        )


MEDIUM = {"priority": "MEDIUM"}


@contextmanager
def serving(path: Path, disk: FaultyDisk) -> Iterator[Service]:
    """Run the service with its worker on a journal on `disk`, at 50 batches a second."""
    settings = Settings(interval=0.02, settle=0.0)
    upstream = WatchedUpstream(path)
    parts = build(settings, journal=SqliteJournal(path, vfs=disk.name), upstream=upstream)
    parts.worker.start()
    yield Service(create_app(settings, parts).test_client(), upstream)
    parts.close(timeout=5)
    assert not parts.worker.state.alive


def assert_refuses(service: Service) -> None:
    """Assert that the service says what is wrong, in every place where it should."""
    answer = service.post()
    assert answer.status_code == 503
    assert answer.content_type == "application/problem+json"
    assert answer.get_json()["type"] == "/problems/storage-unavailable"
    assert answer.headers["Retry-After"]
    assert service.client.get("/health/ready").status_code == 503
    assert service.client.get("/health").status_code == 200


def assert_works(service: Service) -> None:
    """Assert that the service takes work and does all it has ever taken."""
    # Work is taken at once; ready is who has tried again since, which the worker soon does.
    assert service.post().status_code == 200
    eventually(lambda: service.client.get("/health/ready").status_code == 200, 2.0)
    eventually(service.done)
    assert service.upstream.unrecorded == []


@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError, apsw.ReadOnlyError])
@pytest.mark.parametrize("operation", Operation)
def test_the_service_refuses_while_the_disk_is_broken_and_heals_with_it(
    tmp_path: Path, disk: FaultyDisk, operation: Operation, error: type[apsw.Error]
) -> None:
    """503 and not ready while it lasts; what was queued before waits and is done after."""
    path = tmp_path / "journal"
    with serving(path, disk) as service:
        assert service.post(120).status_code == 200
        eventually(lambda: service.upstream.starts)
        disk.break_down(operation, 1, error, lasting=True)
        eventually(lambda: disk.failed)
        # One call may have been under way; after that, no start without a record.
        assert_refuses(service)
        held_at = len(service.upstream.starts)
        failed_at = disk.failed
        # The worker tries again and again, and starts nothing.
        eventually(lambda: disk.failed > failed_at + 3)
        assert len(service.upstream.starts) == held_at
        assert_refuses(service)
        disk.repair()
        assert_works(service)
        assert len(set(service.upstream.starts)) == 41
        assert len(service.upstream.starts) == 41
    assert verify(str(path)) == (2, 0)
    assert half_stored(path) == []


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_lock_of_another_program_is_waited_out(
    tmp_path: Path, disk: FaultyDisk, lock: str
) -> None:
    """503 while somebody else holds the file; the work goes on once it is free."""
    path = tmp_path / "journal"
    with serving(path, disk) as service:
        assert service.post(30).status_code == 200
        eventually(lambda: service.upstream.starts)
        with closing(apsw.Connection(str(path))) as other:
            other.set_busy_timeout(5_000)
            other.execute(lock)
            began = time.monotonic()
            assert_refuses(service)
            assert time.monotonic() - began < 10
            held_at = len(service.upstream.starts)
            assert service.post().status_code == 503
            assert len(service.upstream.starts) == held_at
        assert_works(service)
    assert verify(str(path)) == (2, 0)


def test_clients_in_parallel_all_get_an_answer_from_a_disk_that_comes_and_goes(
    tmp_path: Path, disk: FaultyDisk
) -> None:
    """Whoever got a 200 is served, whoever got a 503 is not; nobody waits for ever."""
    path = tmp_path / "journal"
    refused = []

    def post(service: Service) -> None:
        for _ in range(25):
            answer = service.post(1)
            if answer.status_code != 200:
                assert answer.get_json()["type"] == "/problems/storage-unavailable"
                refused.append(answer)

    with serving(path, disk) as service:
        threads = [threading.Thread(target=post, args=(service,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for nth in range(1, 40):
            disk.break_down(Operation.SYNC, nth % 3 + 1, apsw.IOError, lasting=bool(nth % 2))
            eventually(lambda: disk.failed or not any(each.is_alive() for each in threads))
            disk.repair()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert len(service.posted) + len(refused) == 100
        assert refused
        assert_works(service)
        assert len(service.upstream.starts) == len(set(service.upstream.starts))
    assert verify(str(path)) == (len(service.posted), 0)


CHANGES: dict[str, Callable[[FlaskClient, str, str], Any]] = {
    "cancel": lambda client, waiting, _: client.post(f"/ingestions/{waiting}/cancel"),
    "move": lambda client, waiting, _: client.patch(
        f"/ingestions/{waiting}", json={"priority": "HIGH"}
    ),
    "retry": lambda client, _, failed: client.post(f"/ingestions/{failed}/retry"),
    "delete": lambda client, _, failed: client.delete(f"/ingestions/{failed}"),
    "pause": lambda client, *_: client.post("/queue/pause"),
}


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_that_the_disk_refuses_has_not_happened_after_a_kill(
    tmp_path: Path,
    disk: FaultyDisk,
    change: Callable[[FlaskClient, str, str], Any],
    operation: Operation,
    lasting: bool,
) -> None:
    """Nor is it on record; repeated on a disk that works, it happens once."""
    path, killed = tmp_path / "journal", tmp_path / "killed"
    killed.mkdir()
    parts = build(Settings(interval=0, settle=0), journal=SqliteJournal(path, vfs=disk.name))
    client = create_app(Settings(), parts).test_client()
    failed, waiting = (
        client.post("/ingest", json={"ids": [1, 2, 3]} | MEDIUM).get_json()["ingestion_id"]
        for _ in range(2)
    )
    fail_first(parts, failed)

    def seen(parts: Parts) -> object:
        queries = parts.service.queries
        snapshots = [queries.status(each) for each in (failed, waiting)]
        told = [(one.counts, one.priority, one.finished_at) for one in snapshots]
        return told, queries.queue().health.state, queries.audit(EVERYTHING)

    before = seen(parts)
    disk.break_down(operation, 1, apsw.IOError, lasting=lasting, writes_too=False)
    answer = change(client, waiting, failed)
    for name in (path.name, f"{path.name}-wal"):
        shutil.copyfile(path.with_name(name), killed / name)
    disk.repair()
    after_kill = build(Settings(interval=0, settle=0), journal=SqliteJournal(killed / path.name))
    assert (answer.status_code, answer.get_json()["type"]) == (503, "/problems/storage-unavailable")
    assert seen(parts) == before
    assert seen(after_kill) == before
    after_kill.close(timeout=5)

    assert change(client, waiting, failed).status_code == 200
    assert len(parts.service.queries.audit(EVERYTHING)) == 3
    parts.close(timeout=5)
    assert half_stored(path) == []


EVERYTHING = AuditQuery(datetime(2000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC), 100)


def fail_first(parts: Parts, ingestion_id: str) -> None:
    """Let everything of an ingestion fail, and nothing else be sent."""
    dispatch = EmbeddedDispatch(parts.embedded._core)
    slot = dispatch.take()
    assert isinstance(slot, Slot)
    assert slot.batch.ingestion_id == ingestion_id
    outcomes = [Outcome(succeeded=False, error="no")] * len(slot.batch.items)
    policy = RetryPolicy(max_attempts=1, backoff=1, backoff_max=1, max_retry_after=1)
    times = {"interval": 0.0, "ended_at": slot.at, "decided_at": slot.at}
    dispatch.settle(slot, decide(slot.batch, outcomes, policy, CircuitBreaker(), **times))
