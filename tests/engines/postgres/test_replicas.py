"""Several replicas at once, in real time: what one has answered holds for all."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest

from ingest_service.app import Parts, build
from ingest_service.domain.caller import Caller
from ingest_service.domain.items import Ids
from ingest_service.domain.model import Priority
from ingest_service.errors import IdempotencyMismatch, QueueFull, QuotaFull
from ingest_service.settings import Settings
from tests.postgres import wipe
from tests.scale.checks import assert_depth


@pytest.fixture
def settings(database: str) -> Settings:
    """Return the settings of all of them."""
    return Settings(journal=database)


@pytest.fixture
def replicas(database: str, settings: Settings) -> Iterator[list[Parts]]:
    """Give three of them; no worker runs."""
    wipe(database)
    members = [build(settings) for _ in range(3)]
    yield members
    for member in members:
        member.close(0)
    with psycopg.connect(database) as connection:
        assert_depth(connection)


def test_the_same_request_fifty_times_at_once_is_stored_once(
    replicas: list[Parts],
) -> None:
    def send(number: int) -> str:
        submissions = replicas[number % 3].service.submissions
        return submissions.accept(Ids([1, 2, 3]), Priority.HIGH, "the same").ingestion_id

    with ThreadPoolExecutor(16) as pool:
        answers = set(pool.map(send, range(50)))

    assert len(answers) == 1
    assert replicas[0].service.queries.health().unfinished == 1
    with pytest.raises(IdempotencyMismatch):
        replicas[1].service.submissions.accept(Ids([4]), Priority.HIGH, "the same")


def test_the_bounds_are_exact_however_many_ask_at_once(database: str, settings: Settings) -> None:
    wipe(database)
    members = [build(replace(settings, max_queued_items=100)) for _ in range(3)]

    def send(number: int) -> bool:
        try:
            members[number % 3].service.submissions.accept(Ids(range(7)), Priority.LOW)
        except QueueFull:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        accepted = list(pool.map(send, range(60)))

    assert sum(accepted) == 100 // 7
    assert members[0].service.queries.health().queued_items == 98
    for member in members:
        member.close(0)


def test_a_key_has_no_more_waiting_than_it_may_however_many_ask_at_once(
    replicas: list[Parts],
) -> None:
    caller = Caller(key="small", max_queued_items=50)

    def send(number: int) -> bool:
        submissions = replicas[number % 3].service.submissions
        try:
            submissions.accept(Ids(range(7)), Priority.LOW, caller=caller)
        except QuotaFull:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(send, range(40))) == 50 // 7


def test_who_waits_at_one_replica_hears_of_what_another_has_changed(
    replicas: list[Parts],
) -> None:
    here, there = replicas[0].service, replicas[1].service
    ingestion_id = here.submissions.accept(Ids([1]), Priority.LOW).ingestion_id
    changed = threading.Event()
    end = here.queries.watch(ingestion_id, 0, changed.set)
    assert not changed.is_set()
    there.operator.cancel(ingestion_id)

    assert changed.wait(10)
    end()
