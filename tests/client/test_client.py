"""Submitting, following, fetching and controlling, over real sockets."""

from collections.abc import Callable
from itertools import count, pairwise

import pytest

from ingest_service.client import (
    Conflict,
    IngestClient,
    Items,
    NotFound,
    Refused,
    TimedOut,
)
from tests.client.support import listening


def test_what_is_submitted_is_followed_to_its_end_and_fetched(client: IngestClient) -> None:
    ingestion = client.submit(ids=range(1, 11), priority="LOW")
    statuses = list(ingestion.follow(timeout=20))

    assert [status.is_finished for status in statuses[:-1]] == [False] * (len(statuses) - 1)
    assert (statuses[-1].outcome, statuses[-1].progress) == ("succeeded", 100)
    assert statuses[-1].counts.settled == statuses[-1].counts.total == 10
    assert [result.item for result in ingestion.results()] == list(range(1, 11))
    assert list(ingestion.results(outcome="failed")) == []


def test_mappings_are_submitted_from_any_iterable() -> None:
    with (
        listening(simulated_success_rate_mappings=0.0, max_attempts=1) as url,
        IngestClient(url) as client,
    ):
        mappings = ({"id": f"m{n}", "source": "s", "target": "t"} for n in range(7))
        ingestion = client.submit(mappings=mappings, priority="HIGH")
        status = ingestion.wait(timeout=20)
        failed = list(ingestion.results(outcome="failed"))

        assert (status.status, status.outcome) == ("failed", "failed")
        assert [result.item for result in failed] == [f"m{n}" for n in range(7)]
        assert all(result.error and not result.succeeded for result in failed)
        assert ingestion.retry().retried_items == 7


def test_each_status_differs_from_the_one_before(client: IngestClient) -> None:
    statuses = list(client.submit(ids=range(1, 30), priority="LOW").follow(timeout=20))
    assert all(earlier.document != later.document for earlier, later in pairwise(statuses))


def test_what_is_unknown_in_a_status_is_empty_and_never_absent(client: IngestClient) -> None:
    """So that a finished one is printed by the same line as one that waits."""
    for status in client.submit(ids=[1, 2], priority="LOW").follow(timeout=20):
        text = f"{status.progress} {status.eta.finish_at} {status.why_waiting.message}"
    assert text == "100 None "
    assert (status.queue.position, status.why_waiting.code) == (None, "")


def test_the_same_key_again_is_the_same_ingestion(client: IngestClient) -> None:
    first, second = (client.submit(ids=[1], priority="LOW", key="k") for _ in range(2))
    assert (first, first.replayed, second.replayed) == (
        client.submit(ids=[1], priority="LOW", key="k").__class__(
            client, first.ingestion_id, items=1, key="k"
        ),
        False,
        True,
    )
    assert first.ingestion_id == second.ingestion_id


def test_more_than_one_request_may_have_goes_in_parts() -> None:
    with listening(max_items=100) as url, IngestClient(url) as client:
        items = Items.of(range(1, 251), None)
        ingestions = list(client.submit_parts(items, priority="LOW", key="k"))
        assert [ingestion.items for ingestion in ingestions] == [100, 100, 50]
        assert [ingestion.key for ingestion in ingestions] == ["k", "k-2", "k-3"]

        again = list(client.submit_parts(Items.of(range(1, 251), None), priority="LOW", key="k"))
        assert all(ingestion.replayed for ingestion in again)
        with pytest.raises(ValueError, match="submit_parts"):
            client.submit(ids=count(1), priority="LOW")


def test_with_once_the_content_is_the_key(client: IngestClient) -> None:
    def submit(*ids: int) -> list[bool]:
        items = Items.of(ids, None)
        return [each.replayed for each in client.submit_parts(items, priority="LOW", once=True)]

    assert [submit(1, 2), submit(1, 2), submit(2, 1)] == [[False], [True], [False]]


def test_a_refusal_has_the_fields_of_its_problem(client: IngestClient) -> None:
    with pytest.raises(Refused) as caught:
        client.submit(ids=[1, 0], priority="LOW")
    problem = caught.value.problem
    assert (problem.status, problem.type) == (400, "/problems/validation-error")
    assert [entry.pointer for entry in problem.errors] == ["/ids/1"]
    assert caught.value.key

    with pytest.raises(NotFound, match="Ingestion ID not found"):
        client.status("8f14e45f-ceea-467f-a8f5-1c2b3d4e5f60")
    with pytest.raises(NotFound):
        client.status("../../queue")
    with pytest.raises(ValueError, match="must be one of"):
        client.submit(ids=[1], priority="URGENT")
    with pytest.raises(ValueError, match="nothing"):
        client.submit(ids=[], priority="LOW")


def test_waiting_ends_when_it_is_told_to(client: IngestClient) -> None:
    client.pause("not now")
    ingestion = client.submit(ids=[1], priority="LOW")
    with pytest.raises(TimedOut, match="goes on"):
        ingestion.wait(timeout=0.2)
    client.resume()
    assert ingestion.wait(timeout=20).outcome == "succeeded"


def test_the_queue_is_controlled(client: IngestClient) -> None:
    assert client.pause("tests").reason == "tests"
    low = client.submit(ids=[1, 2], priority="LOW")
    high = client.submit(ids=[3], priority="HIGH")
    assert client.queue().waiting == 2

    assert low.move("HIGH", dry_run=True).delayed_ingestions == 0
    assert low.status().priority == "LOW"
    assert low.move("HIGH").old_priority == "LOW"
    assert high.cancel().cancelled_items == 1
    assert client.set_interval(0.5).interval_seconds == 0.5
    assert client.resume().state == "running"
    low.wait(timeout=20)
    with pytest.raises(Conflict, match="finished"):
        low.cancel()
    assert client.rate_proof().starts == 1
    listed = list(client.ingestions(priority="HIGH", limit=5))
    assert [each.ingestion_id for each in listed] == [high.ingestion_id, low.ingestion_id]


def test_what_is_no_text_is_not_sent() -> None:
    acts: list[Callable[[IngestClient], object]] = [
        lambda client: client.pause("\udcff"),
        lambda client: client.move("x", "\udcff"),
        lambda client: client.status("\udcff"),
        lambda client: list(client.ingestions(status="\udcff")),
    ]
    for act in acts:
        with pytest.raises(ValueError, match=r"surrogates|no text"):
            act(IngestClient("http://127.0.0.1:1", patience=0))


def test_lists_go_on_over_pages(client: IngestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_service.client.client._PAGE", 2)
    ids = [client.submit(ids=[n], priority="LOW").ingestion_id for n in range(1, 6)]
    assert [each.ingestion_id for each in client.ingestions()] == ids[::-1]
    assert len(list(client.ingestions(limit=3))) == 3


def test_a_plan_stores_nothing(client: IngestClient) -> None:
    plan = client.plan(ids=[1] * 10, priority="LOW")
    assert (plan.items, plan.batches_total, plan.queue.position) == (10, 4, 1)
    assert list(client.ingestions()) == []
