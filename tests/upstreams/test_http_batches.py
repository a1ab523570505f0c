"""One request a batch: whose the listed outcomes are, and what is sent again."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from ingest_service.domain.model import Outcome
from ingest_service.upstreams.http_listing import listed_outcomes
from tests.realtime import (
    Scripted,
    answer,
    cut,
    eventually,
    running,
)
from tests.upstreams.calls import batch_of
from tests.upstreams.replies import HALF, first


def test_a_batch_is_one_request_and_its_answer_lists_an_outcome_an_item() -> None:
    """Only what failed for now is sent again, under a key of its own."""
    lists = iter(
        [
            {
                "results": [
                    {"status": "success", "error": "", "n": 1},
                    {"status": "failed", "error": "later", "status_code": 503},
                    {"status": "failed", "error": {"code": 7}},
                ]
            },
            [{"processed_data": "two"}],
        ]
    )
    with (
        Scripted(lambda _: answer(200, next(lists))) as server,
        running(server.batch) as service,
    ):
        ingestion_id = service.send([1, 2, 3])
        one, two, three = service.finish(ingestion_id)
    whole, rest = server.requests
    batch_id = orjson.loads(whole.body)["batch_id"]

    assert orjson.loads(whole.body) == {"batch_id": batch_id, "ids": [1, 2, 3]}
    assert orjson.loads(rest.body) == {"batch_id": batch_id, "ids": [2]}
    assert (whole.key, rest.key) == (batch_id, f"{batch_id}/1")
    assert (one.succeeded, one.processed_data["n"]) == (True, 1)
    assert (two.succeeded, two.processed_data, two.attempts) == (True, "two", 2)
    assert (three.succeeded, three.error, three.attempts) == (False, '{"code":7}', 1)


@pytest.mark.parametrize("batch_size", [3, 300])
def test_a_batch_that_is_sent_again_as_a_whole_has_the_same_key(batch_size: int) -> None:
    """Otherwise the other side could do it twice."""
    with (
        Scripted(first(cut(HALF), answer(200, {}))) as server,
        running(server.batch, batch_size_ids=batch_size) as service,
    ):
        outcomes = service.finish(service.send(range(1, batch_size + 1)))

    assert [request.attempt for request in server.requests] == [1, 2]
    assert len({request.key for request in server.requests}) == 1
    assert all(outcome.succeeded for outcome in outcomes)


def test_a_whole_batch_is_known_by_the_same_key_after_a_restart_and_when_it_is_retried(
    tmp_path: Path,
) -> None:
    """While it waits for its next attempt, and once all of it has failed for good."""
    journal = tmp_path / "journal.sqlite3"
    with Scripted(lambda _: answer(503)) as server:
        with running(server.batch, journal=journal, backoff=0.01) as service:
            ingestion_id = service.send([1, 2, 3])
            eventually("it fails", lambda: service.snapshot(ingestion_id).counts.retrying == 3)
        server.reply = lambda _: answer(404)
        with running(server.batch, journal=journal) as service:
            service.finish(ingestion_id)
            server.reply = lambda _: answer(200, {})
            service.parts.service.operator.retry(ingestion_id)
            assert all(each.succeeded for each in service.finish(ingestion_id))

    assert len(server.requests) >= 3
    assert len({request.key for request in server.requests}) == 1


def test_the_key_of_a_long_rest_of_a_batch_fits_into_a_header() -> None:
    """Whatever is left of it."""
    failed = {"status": "failed", "status_code": 500}
    listed = [failed if n % 2 else n for n in range(600)]
    with (
        Scripted(first(answer(200, listed), answer(200, {}))) as server,
        running(server.batch, batch_size_ids=600) as service,
    ):
        service.finish(service.send(range(1, 601)))

    assert len(server.requests[1].key) <= 200


@pytest.mark.parametrize(
    ("listed", "words"),
    [([1, 2], "listed 2 outcomes for 3 items"), ([], "listed 0 outcomes for 3 items")],
)
def test_a_wrong_number_of_outcomes_fails_the_batch(listed: object, words: str) -> None:
    """Nobody can tell which is whose."""
    with Scripted(lambda _: answer(200, listed)) as server, running(server.batch) as service:
        outcomes = service.finish(service.send([1, 2, 3]))

    assert all(words in str(outcome.error) for outcome in outcomes)


def entry(name: object, **more: Any) -> dict[str, Any]:
    """Return an entry for the item called `name`."""
    return {"id": name, "n": name} | more


@pytest.mark.parametrize(
    ("listed", "data"),
    [
        ([entry(3), entry(2), entry(1)], [1, 2, 3]),
        ([entry("2"), entry(3), entry("1")], ["1", "2", 3]),
        ({"results": [entry(2), entry(1), entry(3)]}, [1, 2, 3]),
        ([{"n": "a"}, {"n": "b", "id": None}, {"n": "c"}], ["a", "b", "c"]),
    ],
    ids=["backwards", "strings", "results", "without"],
)
def test_entries_with_ids_are_matched_by_them_and_others_by_position(
    listed: object, data: list[object]
) -> None:
    """In whatever order they come."""
    with Scripted(lambda _: answer(200, listed)) as server, running(server.batch) as service:
        outcomes = service.finish(service.send([1, 2, 3]))

    assert [outcome.processed_data["n"] for outcome in outcomes] == data


def test_a_failure_is_that_of_the_item_it_names() -> None:
    """It was the last of the list, and is the first of the batch."""
    listed = [entry(3), entry(2), entry(1, status="failed")]
    with Scripted(lambda _: answer(200, listed)) as server, running(server.batch) as service:
        outcomes = service.finish(service.send([1, 2, 3]))

    assert [outcome.succeeded for outcome in outcomes] == [False, True, True]


@pytest.mark.parametrize("key", ["id", "mapping_id"])
def test_entries_for_mappings_name_them_either_way(key: str) -> None:
    """As the request does, or as this service's own answers do."""
    listed = [{key: name, "n": name} for name in "cab"]
    with Scripted(lambda _: answer(200, listed)) as server, running(server.batch) as service:
        outcomes = service.finish(service.send_mappings("a", "b", "c"))

    assert [outcome.processed_data["n"] for outcome in outcomes] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ([entry(1), entry(2), entry(4)], "no outcome for item '3'"),
        ([entry(1), entry(2), entry(2)], "no outcome for item '3'"),
        ([entry(1), entry(2)], "no outcome for item '3'"),
        ([entry(1), entry(2), entry(3), entry(3)], "twice, or one of an unknown item"),
        ([entry(1), entry(2), entry(3), entry(4)], "twice, or one of an unknown item"),
        ([entry(1), entry(2), {"n": 3}], "some without"),
        ([entry(1), entry(2), "fine"], "some without"),
        ([entry(1), entry(2), entry(True)], "no outcome for item '3'"),
        ([entry(1), entry(2), entry([3])], "no outcome for item '3'"),
    ],
    ids=str.split("unknown double missing twice extra mixed text bool list"),
)
def test_entries_that_name_the_wrong_items_make_an_answer_unreadable(
    listed: object, words: str
) -> None:
    """Nobody can tell what became of the items, so all of them are tried again."""
    right = answer(200, [entry(1), entry(2), entry(3)])
    with (
        Scripted(first(answer(200, listed), right)) as server,
        running(server.batch) as service,
    ):
        outcomes = service.finish(service.send([1, 2, 3]))
    assert [(outcome.succeeded, outcome.attempts) for outcome in outcomes] == [(True, 2)] * 3

    with (
        Scripted(lambda _: answer(200, listed)) as server,
        running(server.batch, max_attempts=1) as service,
    ):
        outcomes = service.finish(service.send([1, 2, 3]))
    assert all(words in str(outcome.error) for outcome in outcomes)


def test_an_item_that_is_twice_in_a_batch_is_twice_in_the_answer() -> None:
    """Both in their order."""
    batch = batch_of(4, 5, 4)
    listed = [entry(5), entry(4, n="first"), entry(4, n="second")]
    outcomes = listed_outcomes(batch, Outcome(True, listed, status_code=200))

    assert [outcome.processed_data["n"] for outcome in outcomes] == ["first", 5, "second"]
