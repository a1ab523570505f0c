"""A key that sees only its own: all else does not exist for it, whatever it tries."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest_service.domain.caller import ANYBODY, Caller
from ingest_service.domain.items import Ids
from ingest_service.domain.model import ItemState, Priority
from ingest_service.engines import ListQuery
from ingest_service.engines.embedded.state import KEEP_IN_MEMORY
from ingest_service.errors import Conflict, IdempotencyMismatch, IngestionNotFound, NotPermitted
from ingest_service.service import Service
from ingest_service.settings import Settings
from tests.restarts import Restarts
from tests.service.operating import FINE, NO, replies
from tests.service.owners import ANNA, BERT, OPERATOR, submit
from tests.support import Api, serving

Act = Callable[[Service, str, Caller], object]
ITEMS = list(ItemState)
#: Everything that names an ingestion.
ACTS: dict[str, Act] = {
    "status": lambda service, one, caller: service.queries.status(one, 0, 1, caller),
    "results": lambda service, one, caller: service.queries.results(one, ITEMS, 0, 9, caller),
    "stream": lambda service, one, caller: service.queries.stream(one, ITEMS, caller),
    "cancel": lambda service, one, caller: service.operator.cancel(one, caller),
    "move": lambda service, one, caller: service.operator.move(one, Priority.HIGH, caller),
    "retry": lambda service, one, caller: service.operator.retry(one, caller),
    "delete": lambda service, one, caller: service.operator.delete(one, caller),
}
#: What moment an ingestion is looked at: how long after it was submitted.
STAGES = {"waiting": 0.0, "under way": 0.5, "finished": 5.0, "not in memory": 200.0}


@pytest.fixture(params=["memory", "sqlite"])
def still(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Api]:
    """Give a service on every journal, whose worker rests until time is advanced."""
    where = "memory" if request.param == "memory" else str(tmp_path / "journal.sqlite3")
    with serving(Settings(journal=where), threaded=False) as api:
        yield api
        api.parts.close(0)


@pytest.mark.parametrize("seconds", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_what_another_key_has_submitted_does_not_exist(
    still: Api, act: Act, seconds: float
) -> None:
    """Nor what came without a key; whether it is finished is not told either."""
    others = submit(still, BERT), submit(still, ANYBODY)
    still.advance(seconds)
    before = [still.status(each) for each in others]
    for each in others:
        with pytest.raises(IngestionNotFound):
            act(still.parts.service, each, ANNA)
    assert [still.status(each) for each in others] == before


@pytest.mark.parametrize("caller", [ANNA, OPERATOR, ANYBODY], ids=["own", "operator", "no keys"])
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_what_exists_for_a_key_it_can_use(still: Api, act: Act, caller: Caller) -> None:
    """As far as its state allows."""
    one = submit(still, ANNA)
    try:
        act(still.parts.service, one, caller)
    except Conflict as refusal:
        assert "not finished" in str(refusal)  # noqa: PT017


def test_whose_it_is_is_told_in_every_answer(still: Api) -> None:
    """While it waits, when it is finished, and when only the journal knows it."""
    mine, nobodys = submit(still, ANNA), submit(still, ANYBODY)
    for seconds in (0.0, 20.0, KEEP_IN_MEMORY.total_seconds() + 20):
        still.advance(seconds)
        submit(still, OPERATOR)
        listed = still.client.get("/ingestions").get_json()["ingestions"]
        owners = {each["ingestion_id"]: each["submitted_by"] for each in listed}
        for ingestion_id, owner in ((mine, "anna"), (nobodys, None)):
            assert still.status(ingestion_id)["submitted_by"] == owner
            assert still.results(ingestion_id)["submitted_by"] == owner
            assert owners[ingestion_id] == owner


def test_lists_have_pages_of_what_exists(still: Api) -> None:
    """As many on each as were asked for, however many of others lie between."""
    mine = []
    for _ in range(5):
        mine.append(submit(still, ANNA))
        submit(still, BERT)
        still.advance(7)
    pages, before = [], 2**62
    while page := still.parts.service.queries.ingestions(ListQuery(before, 2), ANNA):
        pages.append([snapshot.ingestion_id for snapshot in page])
        before = page[-1].sequence

    assert pages == [mine[4:2:-1], mine[2:0:-1], mine[0:1]]


def test_lists_can_be_asked_for_what_one_key_has_submitted(still: Api) -> None:
    """Finished or not; a key that sees only its own finds nothing under another name."""
    first = submit(still, ANNA)
    still.advance(5)
    second, _ = submit(still, ANNA), submit(still, BERT)
    query = ListQuery(2**62, 10, submitted_by="anna")
    ingestions = still.parts.service.queries.ingestions
    answer = still.client.get("/ingestions?submitted_by=anna").get_json()

    assert [each["ingestion_id"] for each in answer["ingestions"]] == [second, first]
    assert [one.ingestion_id for one in ingestions(query, OPERATOR)] == [second, first]
    assert ingestions(query, BERT) == []
    assert still.client.get("/ingestions?submitted_by=nobody").get_json()["ingestions"] == []


def test_the_queue_shows_ids_only_of_what_exists(still: Api) -> None:
    """What they are is hidden, not that they are there: the counts are those of everybody."""
    under_way, mine, other = submit(still, BERT), submit(still, ANNA), submit(still, BERT, 4)
    still.advance(0.5)
    queries = still.parts.service.queries
    seen, all_seen = queries.queue(ANNA), queries.queue(OPERATOR)

    assert [slot.ingestion_id for slot in seen.upcoming] == [mine, None, None]
    assert [(batch.ingestion_id, batch.batch_id) for batch in seen.in_flight] == [(None, None)]
    assert [slot.ingestion_id for slot in all_seen.upcoming] == [mine, other, other]
    assert [batch.ingestion_id for batch in all_seen.in_flight] == [under_way]
    assert (seen.depth, seen.health) == (all_seen.depth, all_seen.health)


@pytest.mark.parametrize(
    "act",
    [
        lambda operator: operator.pause("", ANNA),
        lambda operator: operator.resume(ANNA),
        lambda operator: operator.set_interval(1.0, ANNA),
    ],
    ids=["pause", "resume", "interval"],
)
def test_the_queue_as_a_whole_is_nobodys_own(still: Api, act: Callable[[object], None]) -> None:
    before = still.client.get("/queue").get_json()
    with pytest.raises(NotPermitted):
        act(still.parts.service.operator)
    assert still.client.get("/queue").get_json() == before


def test_idempotency_keys_are_private_to_each_key(still: Api) -> None:
    """The same word means something else from each; without a key it is one of its own."""
    mine, others, nobodys = (submit(still, each, key="k") for each in (ANNA, BERT, ANYBODY))
    again = [submit(still, each, key="k") for each in (ANNA, BERT, ANYBODY)]
    with pytest.raises(IdempotencyMismatch):
        submit(still, ANNA, 2, key="k")

    assert len({mine, others, nobodys}) == 3
    assert again == [mine, others, nobodys]


def test_whose_it_is_survives_a_restart(lives: Restarts) -> None:
    """And the idempotency keys with it."""
    one = submit(lives.api, ANNA, key="k")
    lives.crash()

    assert lives.api.parts.service.queries.status(one, caller=ANNA).submitted_by == "anna"
    with pytest.raises(IngestionNotFound):
        lives.api.parts.service.queries.status(one, caller=BERT)
    assert submit(lives.api, ANNA, key="k") == one
    assert submit(lives.api, BERT, key="k") != one


def test_a_plan_tells_nothing_of_others(still: Api) -> None:
    """But how many are ahead."""
    submit(still, BERT, 7)
    plan = still.parts.service.submissions.plan(Ids([1]), Priority.LOW, ANNA)
    assert plan.eta.batches_ahead == 3


def test_another_key_can_try_again_what_failed(still: Api) -> None:
    """If it sees it; it stays whose it was."""
    still.upstream.reply = replies(NO, FINE)
    one = submit(still, ANNA)
    still.advance(2)
    assert still.parts.service.operator.retry(one, OPERATOR) == 1
    still.advance(20)
    assert still.status(one)["submitted_by"] == "anna"
