"""Looking back: what each transaction has counted, and what was added up of it meanwhile."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingest_service.app import build_worker
from ingest_service.domain.history import minute_of
from ingest_service.domain.ids import fresh_id
from ingest_service.domain.model import Priority
from ingest_service.domain.rollup import WAIT, Counts
from ingest_service.engines import Slot
from ingest_service.engines.postgres.database import Database, Transaction
from ingest_service.engines.postgres.dispatch import PostgresDispatch
from ingest_service.engines.postgres.exporting import export
from ingest_service.engines.postgres.importing import import_into
from ingest_service.engines.postgres.rollups import count, forget, recorded, roll_up
from ingest_service.engines.postgres.statements import MIGRATIONS
from ingest_service.settings import Settings
from tests.moving import exported, reader
from tests.postgres import StepInTurn, wipe
from tests.recounting import CHANGES, NAMES, PERIODS, Change, Period, at, recount, told
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


def write(tx: Transaction, changes: list[Change]) -> None:
    """Count changes; before some, what was counted is added up. Every other one changes a depth."""
    for number, (minute, name, more, is_rolled_up) in enumerate(changes):
        if is_rolled_up:
            roll_up(tx)
        changed = Transaction(tx.connection, at(minute))
        count(changed, {name: more}, moved=False)
        if number % 2:
            tx.connection.execute(_DEPTH, [minute_of(at(minute)), [number, 0, 0]])


_DEPTH = """INSERT INTO depth_at VALUES (%s, %s, '{0,0,0}')
            ON CONFLICT (minute) DO UPDATE SET batches = excluded.batches"""


def depths(changes: list[Change], period: Period) -> list[int | None]:
    """Return what waits at the end of each step of a period."""
    first, length, size = period
    known = {minute: number for number, (minute, *_) in enumerate(changes) if number % 2}
    ends = [min(first + size * (step + 1), first + length) for step in range(-(-length // size))]
    last = [max((minute for minute in known if minute < end), default=-1) for end in ends]
    return [known.get(minute) for minute in last]


def told_of(tx: Transaction, period: Period) -> list[Counts]:
    return [step.counts for step in told(partial(recorded, tx), period)]


@given(CHANGES, PERIODS)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_steps_are_told_as_a_recount_would(
    database: str, changes: list[Change], periods: list[Period]
) -> None:
    """Whoever is late, and whatever is not added up yet; with what waited at their ends."""
    wipe(database)
    with psycopg.connect(database) as connection:
        write(tx := Transaction(connection, None), changes)
        for period in periods:
            in_steps = told(partial(recorded, tx), period)
            waited = [step.depth and step.depth["depth.HIGH.batches"] for step in in_steps]
            assert [step.counts for step in in_steps] == recount(changes, period)
            assert waited == depths(changes, period)


def move_all(database: str) -> None:
    """Let everything be moved to another database."""
    text = exported(export, database)
    wipe(database)
    import_into(database, reader(text))


def migrate_again(database: str) -> None:
    """Let everything be of the version that did not sum up hours."""
    with psycopg.connect(database) as connection:
        roll_up(Transaction(connection, None))
        connection.execute("ALTER TABLE rollup DROP so_far; DROP FUNCTION sum_hours CASCADE")
        connection.execute(MIGRATIONS["2"])


@pytest.mark.parametrize("change", [move_all, migrate_again])
@given(before=CHANGES, after=CHANGES, periods=PERIODS)
@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_moved_or_comes_from_an_older_version_goes_on_in_the_same_way(
    database: str,
    before: list[Change],
    after: list[Change],
    periods: list[Period],
    change: Callable[[str], None],
) -> None:
    wipe(database)
    with psycopg.connect(database) as connection:
        write(Transaction(connection, None), before)
    change(database)
    with psycopg.connect(database) as connection:
        write(tx := Transaction(connection, None), after)
        for period in periods:
            assert told_of(tx, period) == recount(before + after, period)


@example([(40, NAMES[0], 1, False), (50, NAMES[0], 2, False)], [], [(45, 9, 9)], 45)
@given(CHANGES, CHANGES, PERIODS, st.integers(0, 200))
@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_left_of_an_hour_is_told_without_what_was_forgotten(
    database: str, before: list[Change], after: list[Change], periods: list[Period], first: int
) -> None:
    """Also if a worker of an older version forgets by the minute."""
    wipe(database)
    with psycopg.connect(database) as connection:
        write(tx := Transaction(connection, None), before)
        roll_up(tx)
        forget(tx, at(first))
        for period in periods:
            if period[0] >= first:
                assert told_of(tx, period) == recount(before, period)
        minute = minute_of(at(first))
        connection.execute("DELETE FROM rollup WHERE minute > 0 AND minute < %s", [minute])
        write(tx, after)
        left = [change for change in before if change[0] >= first]
        for period in periods:
            assert told_of(tx, period) == recount(left + after, period)
