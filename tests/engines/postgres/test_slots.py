"""A slot that was taken: given back, lost, or too late; whatever happens the sums are right."""

import psycopg
import pytest

from ingest_service.domain.model import Outcome
from ingest_service.engines import Slot
from ingest_service.engines.postgres.dispatch import PostgresDispatch
from tests.postgres import StepInTurn
from tests.scale.checks import assert_depth
from tests.service.operating import cancel, counts, pause, replies, resume, retry, words
from tests.support import Api


@pytest.fixture
def dispatch(workers: StepInTurn) -> PostgresDispatch:
    """Give what the first worker takes slots with."""
    return workers.workers[0].dispatch


@pytest.fixture(autouse=True)
def _sums(database: str, pg: Api) -> object:
    """Compare the running sums with the rows, after each test."""
    yield
    with psycopg.connect(database) as connection:
        assert_depth(connection)


def _taken(dispatch: PostgresDispatch) -> Slot:
    slot = dispatch.take()
    assert isinstance(slot, Slot)
    return slot


def test_one_that_is_not_confirmed_within_a_second_is_given_back(
    pg: Api, dispatch: PostgresDispatch
) -> None:
    ingestion_id = pg.ingest([1, 2, 3, 4])
    slot = _taken(dispatch)
    assert counts(pg, ingestion_id) == {"queued": 1, "in_flight": 3}

    pg.advance(1.1)

    assert [items for _, items in pg.sent()] == [[1, 2, 3]]
    assert not dispatch.confirm(slot)
    assert pg.sent()[0][0] == pytest.approx(1.0, abs=0.01)


def test_as_long_as_it_may_be_confirmed_no_other_opens(pg: Api, dispatch: PostgresDispatch) -> None:
    pg.ingest([1, 2, 3, 4])
    _taken(dispatch)

    assert isinstance(dispatch.take(), float)


def test_what_was_given_back_has_its_place_and_its_slot_again(
    pg: Api, dispatch: PostgresDispatch
) -> None:
    first, second = pg.ingest([1, 2, 3]), pg.ingest([4])
    slot = _taken(dispatch)
    dispatch.give_back(slot)

    assert pg.status(first)["status"] == "yet_to_start"
    assert pg.status(first)["started_at"] is None
    pg.advance(20)
    assert pg.sent() == [(0.0, [1, 2, 3]), (5.0, [4])]
    assert pg.status(second)["status"] == "completed"


def test_what_is_cancelled_before_it_is_confirmed_is_never_sent(
    pg: Api, dispatch: PostgresDispatch
) -> None:
    ingestion_id, other = pg.ingest([1, 2, 3, 4]), pg.ingest([5])
    slot = _taken(dispatch)
    cancel(pg, ingestion_id)

    assert words(pg, ingestion_id) == ["cancelled", "cancelled", "cancelled"]
    assert not dispatch.confirm(slot)
    pg.advance(6)
    assert [items for _, items in pg.sent()] == [[5]]
    assert pg.status(other)["status"] == "completed"


def test_what_is_given_back_after_a_cancellation_is_cancelled(
    pg: Api, dispatch: PostgresDispatch
) -> None:
    ingestion_id = pg.ingest([1, 2, 3, 4])
    slot = _taken(dispatch)
    assert dispatch.confirm(slot)
    pg.timeline.pass_by(0.1)  # type: ignore[attr-defined]
    cancel(pg, ingestion_id)
    dispatch.give_back(slot)

    assert words(pg, ingestion_id) == ["cancelled", "cancelled", "cancelled"]


def test_a_pause_stops_what_is_taken_and_not_confirmed(pg: Api, dispatch: PostgresDispatch) -> None:
    pg.ingest([1, 2, 3])
    slot = _taken(dispatch)
    pause(pg)

    assert not dispatch.confirm(slot)
    pg.advance(10)
    assert pg.sent() == []
    resume(pg)
    pg.advance(1)
    assert [items for _, items in pg.sent()] == [[1, 2, 3]]


def test_what_a_dead_worker_has_sent_is_sent_again_in_its_place(
    pg: Api, dispatch: PostgresDispatch
) -> None:
    ingestion_id = pg.ingest([1, 2, 3, 4, 5, 6])
    slot = _taken(dispatch)
    assert dispatch.confirm(slot)
    dispatch.lose(slot.number)

    assert counts(pg, ingestion_id) == {"queued": 6}
    pg.advance(20)
    assert pg.sent() == [(5.0, [1, 2, 3]), (10.0, [4, 5, 6])]
    assert pg.upstream.starts[0][1].start_no == 2
    assert pg.upstream.starts[0][1].attempt == 1


def test_a_batch_whose_third_start_has_no_end_has_crashed(
    pg: Api, dispatch: PostgresDispatch
) -> None:
    ingestion_id = pg.ingest([1, 2])
    for number in range(3):
        slot = _taken(dispatch)
        assert slot.batch.start_no == number + 1
        assert dispatch.confirm(slot)
        dispatch.lose(slot.number)
        pg.timeline.pass_by(6)  # type: ignore[attr-defined]

    results = pg.results(ingestion_id)["results"]
    assert [result["error"] for result in results] == ["crashed", "crashed"]
    assert pg.status(ingestion_id)["outcome"] == "failed"
    retry(pg, ingestion_id)
    pg.advance(10)
    assert pg.status(ingestion_id)["outcome"] == "succeeded"


def test_a_start_has_one_end_and_a_late_one_changes_nothing(
    pg: Api, workers: StepInTurn, dispatch: PostgresDispatch
) -> None:
    ingestion_id = pg.ingest([1, 2, 3])
    pg.upstream.reply = replies(Outcome(succeeded=False, error="too late"))
    slot = _taken(dispatch)
    late = workers.workers[1].carrier.begin(slot)
    assert late is not None
    dispatch.lose(slot.number)
    pg.advance(10)
    before = pg.status(ingestion_id)
    while late.turn() > 0:
        pg.timeline.pass_by(1)  # type: ignore[attr-defined]

    assert pg.status(ingestion_id) == before
    assert before["outcome"] == "succeeded"


def test_what_was_sent_of_something_cancelled_is_sent_again_if_its_worker_dies(
    pg: Api, dispatch: PostgresDispatch
) -> None:
    ingestion_id = pg.ingest([1, 2, 3, 4])
    slot = _taken(dispatch)
    assert dispatch.confirm(slot)
    pg.timeline.pass_by(0.1)  # type: ignore[attr-defined]
    cancel(pg, ingestion_id)
    dispatch.lose(slot.number)
    pg.advance(20)

    assert [items for _, items in pg.sent()] == [[1, 2, 3]]
    assert words(pg, ingestion_id) == ["cancelled", "succeeded", "cancelled"]


def test_after_a_restart_of_the_server_one_whole_interval_is_waited(pg: Api, database: str) -> None:
    pg.ingest([1, 2, 3, 4, 5, 6])
    pg.advance(1)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE pace SET server = 'another one'")
    pg.advance(20)

    assert [at for at, _ in pg.sent()] == [0.0, 6.0]


def test_no_more_batches_than_allowed_are_under_way_though_workers_die(
    pg: Api, dispatch: PostgresDispatch
) -> None:
    pg.ingest(range(1, 10))
    slot = _taken(dispatch)
    assert dispatch.confirm(slot)
    pg.advance(60)
    assert pg.sent() == []

    dispatch.lose(slot.number)
    pg.advance(1.5)
    assert [items for _, items in pg.sent()] == [[1, 2, 3]]


def test_without_a_worker_everybody_is_told(pg: Api) -> None:
    ingestion_id = pg.ingest([1])
    assert pg.client.get("/health").get_json()["workers"] == 2
    pg.timeline.pass_by(31)  # type: ignore[attr-defined]

    health = pg.client.get("/health").get_json()
    assert (health["worker"], health["workers"]) == ("stopped", 0)
    assert pg.client.get("/health/ready").status_code == 503
    assert pg.status(ingestion_id)["why_waiting"]["code"] == "no_worker"
