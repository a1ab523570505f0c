"""Looking back: what each transaction has counted, and what was added up of it meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from ingest_service.app import build_worker
from ingest_service.domain.ids import fresh_id
from ingest_service.domain.model import Priority
from ingest_service.domain.rollup import WAIT, Counts
from ingest_service.engines import Slot
from ingest_service.engines.postgres.database import Database, Transaction
from ingest_service.engines.postgres.dispatch import PostgresDispatch
from ingest_service.engines.postgres.rollups import count, roll_up
from ingest_service.settings import Settings
from tests.postgres import StepInTurn
from tests.service.operating import LATER, cancel, move, replies
from tests.support import Api, FrozenClock
from tests.web.support import clock_time, get


@pytest.fixture
def settings() -> Settings:
    """Return settings under which nothing is put in order first, and an hour is remembered."""
    return Settings(settle=0, retention=3_600)


@pytest.fixture
def dispatch(workers: StepInTurn) -> PostgresDispatch:
    """Give what the first worker takes slots with."""
    return workers.workers[0].dispatch


@pytest.fixture
def db(workers: StepInTurn) -> Database:
    """Give the database of a worker."""
    return workers.workers[0].database


def history(pg: Api, **query: Any) -> dict[str, Any]:
    return get(pg.client, "/queue/history", **query)


def totals(pg: Api) -> Counts:
    return pg.parts.engine.records.totals()


def waiting(step: dict[str, Any]) -> list[int] | None:
    """Return how many batches wait at the end of a step, by class; None if nobody knows."""
    depth = [step["depth"][name] for name in ("HIGH", "MEDIUM", "LOW")]
    return [each["batches"] for each in depth] if all(depth) else None


@contextmanager
def unhurried(db: Database) -> Iterator[Transaction]:
    """Give a transaction that may wait for a slow machine."""
    with db.transaction() as tx:
        tx.connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield tx


def test_what_is_added_up_is_told_as_before(pg: Api, workers: StepInTurn, database: str) -> None:
    pg.ingest(range(1, 10), "HIGH")
    pg.advance(59)
    cancel(pg, pg.ingest(range(1, 10), "LOW"))
    before = history(pg), totals(pg)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT FROM counted").fetchall()
    workers.rest()

    assert (history(pg), totals(pg)) == before
    with psycopg.connect(database) as connection:
        assert not connection.execute("SELECT FROM counted").fetchall()
    assert before[1]["settled.HIGH.items.succeeded"] == 9
    assert before[1]["settled.LOW.batches.cancelled"] == 3


def test_history_goes_with_the_retention_but_totals_and_what_waits_stay(
    pg: Api, workers: StepInTurn, database: str
) -> None:
    pg.ingest([1, 2, 3], "HIGH")
    pg.advance(10)
    pg.client.post("/queue/pause", json={"reason": "lunch"})
    pg.ingest([4], "LOW")
    pg.advance(7_200)
    told = history(pg, **{"from": clock_time(0), "step": 60})

    assert sum(step["accepted"]["HIGH"]["items"] for step in told["steps"]) == 0
    assert [waiting(step) for step in told["steps"][-60:]] == [[0, 0, 1]] * 60
    assert totals(pg)["started.HIGH.items"] == 3
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM rollup").fetchall() == [(1,)]
        assert connection.execute("SELECT count(*) FROM depth_at").fetchall() == [(1,)]


def test_what_is_given_back_was_not_started(pg: Api, dispatch: PostgresDispatch) -> None:
    """It is counted when it is confirmed."""
    pg.advance(1)
    pg.ingest([1, 2, 3, 4])
    slot = dispatch.take()
    assert isinstance(slot, Slot)
    assert waiting(history(pg)["steps"][-1]) == [0, 1, 0]
    dispatch.give_back(slot)
    assert waiting(history(pg)["steps"][-1]) == [0, 2, 0]
    assert "started.MEDIUM.batches" not in totals(pg)

    pg.advance(3)
    assert totals(pg)["started.MEDIUM.batches"] == 1


def test_what_a_dead_worker_has_sent_was_started_twice(pg: Api, dispatch: PostgresDispatch) -> None:
    pg.advance(1)
    pg.ingest([1, 2, 3])
    slot = dispatch.take()
    assert isinstance(slot, Slot)
    assert dispatch.confirm(slot)
    dispatch.lose(slot.number)
    assert waiting(history(pg)["steps"][-1]) == [0, 1, 0]
    pg.advance(30)

    counts = totals(pg)
    assert counts["started.MEDIUM.batches"] == 2
    assert counts["settled.MEDIUM.batches.succeeded"] == 1
    # Of its first start only.
    assert sum(WAIT[Priority.MEDIUM].buckets(counts)) == 1


def test_a_move_shows_in_what_waits(pg: Api) -> None:
    pg.client.post("/queue/pause", json={"reason": "lunch"})
    name = pg.ingest([1, 2, 3, 4], "LOW")
    pg.advance(60)
    move(pg, name, "HIGH")
    pg.advance(60)

    steps = history(pg)["steps"]
    assert [waiting(step) for step in steps[-3:]] == [None, [0, 0, 2], [2, 0, 0]]


def test_a_retry_shows_when_it_joins_the_line(pg: Api) -> None:
    """Also if no slot is open then."""
    pg.upstream.reply = replies(LATER)
    pg.ingest([1])
    pg.advance(1.01)
    pg.client.post("/queue/pause", json={"reason": "lunch"})
    pg.advance(600)

    step = history(pg)["steps"][-1]
    assert step["depth"]["MEDIUM"] == {"batches": 1, "items": 1}


def test_nobody_who_counts_is_waited_for(pg: Api, db: Database) -> None:
    """Nor who adds up."""
    pg.ingest([1])
    with unhurried(db) as tx:
        tx.row("lock_pace")
        count(tx, {"gap.1": 1}, moved=False)
        roll_up(tx)
        pg.ingest([2])
        with db.transaction() as another:
            assert not roll_up(another)

    assert totals(pg)["accepted.MEDIUM.items"] == 2
    assert totals(pg)["gap.1"] == 1


def test_who_is_late_for_a_minute_shows_in_the_next(pg: Api, db: Database) -> None:
    """What waits at the end of a minute includes all that was before, whoever came first."""
    pg.advance(59)
    with unhurried(db) as tx:
        values: dict[str, Any] = {"kind": "ids", "batch_size": 3, "submitted_by": None}
        values |= {"id": fresh_id(), "priority": 1, "batches": 1, "total": 1, "request_id": None}
        values["keyed"] = False
        tx.run("add_ingestion", **values)
        count(tx, {})
        pg.timeline.pass_by(2)  # type: ignore[attr-defined]
        pg.ingest([1, 2, 3], "LOW")

    assert waiting(history(pg)["steps"][-1]) == [1, 0, 1]


def test_a_worker_with_another_interval_is_in_the_history_and_so_is_a_restart(
    pg: Api, database: str, settings: Settings
) -> None:
    pg.advance(60)
    changed = replace(settings, journal=database, interval=2)
    worker = build_worker(changed, lambda connection, start: None, clock=FrozenClock())
    worker.dispatch.take()
    worker.database.close()
    pg.timeline.pass_by(60)  # type: ignore[attr-defined]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE pace SET server = 'another one'")
    pg.advance(60)
    told = history(pg)

    assert told["marks"] == [
        {"at": clock_time(at), "kind": "restart", "detail": "0 unfinished"} for at in (0, 60, 120)
    ]
    assert [step["slots"] for step in told["steps"][-4:]] == [None, 12, 30, 12]
