"""One request a batch: whose the listed outcomes are, and what is sent again."""

import orjson
import pytest

from tests.realtime import (
    Scripted,
    answer,
    cut,
    running,
)
from tests.upstreams.replies import HALF, first


def test_a_batch_is_one_request_and_its_answer_lists_an_outcome_an_item() -> None:
    """Only what failed for now is sent again, under a key of its own."""
    lists = iter(
        [
            {
                "results": [
                    {"status": "success", "error": None, "n": 1},
                    {"status": "failed", "error": "later", "status_code": 503},
                    {"status": "failed", "error": "never"},
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
    assert (three.succeeded, three.error, three.attempts) == (False, "never", 1)


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
