"""Which batch goes out when: order, pace, settling, sizes."""

import threading
from dataclasses import replace

import pytest

from ingest_service.settings import Settings
from tests.support import Api, serving


def test_high_overtakes_a_running_medium_between_two_batches(api: Api) -> None:
    """The example everybody knows: the slot opens first, then the batch is chosen."""
    api.ingest([1, 2, 3, 4, 5], "MEDIUM")
    api.advance(4)
    api.ingest([6, 7, 8, 9], "HIGH")
    api.advance(20)

    assert api.sent() == [(0.45, [1, 2, 3]), (5.45, [6, 7, 8]), (10.45, [9]), (15.45, [4, 5])]


def test_requests_posted_together_are_served_by_priority(api: Api) -> None:
    """The settling delay lets LOW, MEDIUM and HIGH arrive before the first slot opens."""
    api.ingest([3], "LOW")
    api.ingest([2], "MEDIUM")
    api.ingest([1], "HIGH")
    api.advance(15)

    assert api.sent() == [(0.45, [1]), (5.45, [2]), (10.45, [3])]


def test_a_class_is_served_first_come_first_served(api: Api) -> None:
    """All arrive at the same instant, so only the order of arrival can tell them apart."""
    for item in range(1, 6):
        api.ingest([item], "MEDIUM")
    api.advance(30)

    assert [items for _, items in api.sent()] == [[1], [2], [3], [4], [5]]


def test_an_earlier_ingestion_is_finished_before_a_later_one_of_its_class(api: Api) -> None:
    """An ingestion that is put back keeps its place."""
    api.ingest([1, 2, 3, 4, 5, 6], "LOW")
    api.ingest([7, 8, 9], "LOW")
    api.advance(20)

    assert [items for _, items in api.sent()] == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_ids_go_out_in_threes_and_mappings_in_fives(api: Api) -> None:
    """The last batch of a request has what is left; batches never mix requests."""
    api.ingest(range(1, 8), "HIGH")
    api.ingest_mappings(6, "LOW")
    api.advance(30)

    assert [len(items) for _, items in api.sent()] == [3, 3, 1, 5, 1]


def test_batches_start_an_interval_apart(api: Api) -> None:
    """Start to start: that a batch takes a second does not delay the next."""
    api.ingest(range(1, 10))
    api.advance(30)

    assert [at for at, _ in api.sent()] == [0.45, 5.45, 10.45]


def test_an_upstream_slower_than_the_interval_delays_the_next_start(api: Api) -> None:
    """One batch is under way at a time unless more are allowed."""
    api.upstream.latency = 7
    api.ingest(range(1, 7))
    api.advance(30)

    assert [at for at, _ in api.sent()] == [0.45, 7.45]


def test_several_batches_may_be_under_way_when_allowed(settings: Settings) -> None:
    """Starts keep the interval, ends do not matter."""
    with serving(replace(settings, max_concurrent_batches=2), threaded=False) as api:
        api.upstream.latency = 7
        api.ingest(range(1, 10))
        api.advance(30)

        assert [at for at, _ in api.sent()] == [0.45, 5.45, 10.45]


def test_idle_time_does_not_add_up_to_a_burst(api: Api) -> None:
    """Slots that nobody used are gone."""
    api.ingest([1])
    api.advance(60)
    api.ingest(range(1, 7))
    api.advance(10)

    assert [at for at, _ in api.sent()] == [0.45, 60.45, 65.45]


def test_a_request_in_the_middle_of_an_interval_waits_for_its_end(api: Api) -> None:
    """An empty queue does not make the next start free."""
    api.ingest([1])
    api.advance(2)
    api.ingest([2])
    api.advance(10)

    assert [at for at, _ in api.sent()] == [0.45, 5.45]


def test_only_a_queue_that_was_empty_settles(api: Api) -> None:
    """A request that joins others does not delay them."""
    api.ingest(range(1, 7))
    api.advance(5.3)
    api.ingest([7], "HIGH")
    api.advance(10)

    assert api.sent() == [(0.45, [1, 2, 3]), (5.45, [7]), (10.45, [4, 5, 6])]


def test_no_interval_means_no_limit(settings: Settings) -> None:
    """Then batches follow one another as fast as the upstream takes them."""
    with serving(replace(settings, interval=0.0, settle=0.0), threaded=False) as api:
        api.ingest(range(1, 10))
        api.advance(3)

        assert [at for at, _ in api.sent()] == [0, 1, 2]


@pytest.mark.parametrize("threads", [16])
def test_concurrent_submitters_lose_nothing_and_share_one_pace(api: Api, threads: int) -> None:
    """Every request of sixteen clients at once is stored once and sent once."""
    accepted: list[str] = []

    def submit(item: int) -> None:
        accepted.append(api.ingest([item], ("HIGH", "MEDIUM", "LOW")[item % 3]))

    clients = [threading.Thread(target=submit, args=(item,)) for item in range(1, threads + 1)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    api.advance(threads * 5)

    sent = api.sent()
    assert len(set(accepted)) == threads
    assert sorted(item for _, (item,) in sent) == list(range(1, threads + 1))
    assert [item % 3 for _, (item,) in sent] == sorted(item % 3 for _, (item,) in sent)
    assert [at for at, _ in sent] == [round(0.45 + 5 * n, 2) for n in range(threads)]
