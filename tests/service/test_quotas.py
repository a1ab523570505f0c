"""How much of one key may wait: exactly so much, and when there will be room again."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingest_service.domain.caller import Caller
from ingest_service.domain.items import Ids
from ingest_service.domain.model import Priority
from ingest_service.engines import ListQuery
from ingest_service.errors import IngestServiceError, QuotaFull
from ingest_service.settings import Settings
from tests.restarts import Restarts, restarting
from tests.service.operating import FINE, NO, replies
from tests.service.owners import submit
from tests.support import Api
from tests.web.support import half

ANNA = Caller("anna", max_queued_items=10)
BERT = Caller("bert", max_queued_items=10)


@pytest.fixture
def settings() -> Settings:
    """Start a batch of two every five seconds, without settling."""
    return Settings(batch_size_ids=2, settle=0)


def refused_for(api: Api, caller: Caller, count: int) -> float | None:
    """Submit too much; return in how many seconds there will be room."""
    with pytest.raises(QuotaFull) as refusal:
        submit(api, caller, count)
    return refusal.value.retry_after


def test_a_key_may_have_so_many_items_waiting_and_not_one_more(api: Api) -> None:
    """What is sent does not wait any more; what others have waiting does not count."""
    operator = api.parts.service.operator
    # Otherwise the first batch goes out as soon as the worker's thread has its turn.
    operator.pause("")
    submit(api, BERT, 10)
    submit(api, ANNA, 7)
    refused_for(api, ANNA, 4)
    submit(api, ANNA, 3)
    refused_for(api, ANNA, 1)
    refused_for(api, BERT, 1)
    operator.resume()
    api.advance(0.5)
    submit(api, BERT, 2)
    refused_for(api, ANNA, 1)


def test_fifty_at_once_get_exactly_the_room_there_is(api: Api) -> None:
    """Those whose record is under way count as well."""
    start, caller = Barrier(50), ANNA._replace(max_queued_items=60)

    def ask(_: int) -> bool:
        start.wait()
        try:
            submit(api, caller, 3)
        except QuotaFull:
            return False
        return True

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, range(50)))
    assert sum(answers) == 20


def test_when_there_is_room_is_reckoned_with_what_goes_before(api: Api) -> None:
    """Own items behind those of others wait for these: at the second the promise comes true."""
    submit(api, BERT, 4)
    submit(api, ANNA, 4)
    submit(api, BERT, 2, Priority.HIGH)
    submit(api, ANNA, 6)

    # Slots: bert 0, bert 5, bert 10, anna 15 (2), 20 (2), 25 (2), 30 (2), 35 (2).
    assert refused_for(api, ANNA, 1) == 15
    assert refused_for(api, ANNA, 2) == 15
    assert refused_for(api, ANNA, 3) == 20
    assert refused_for(api, ANNA, 10) == 35
    api.advance(14.9)
    assert refused_for(api, ANNA, 2) == pytest.approx(0.1, abs=1e-5)
    api.advance(0.2)
    submit(api, ANNA, 2)


def test_nobody_knows_when_while_the_queue_is_paused(api: Api) -> None:
    submit(api, ANNA, 10)
    api.parts.service.operator.pause("")
    assert refused_for(api, ANNA, 1) == float("inf")


def test_a_request_that_alone_has_too_many_never_has_room(api: Api) -> None:
    assert refused_for(api, ANNA, 11) is None
    submit(api, ANNA, 10)


def test_a_plan_is_refused_as_the_request_would_be(api: Api) -> None:
    submit(api, ANNA, 9)
    plan = api.parts.service.submissions.plan
    plan(Ids([1]), Priority.LOW, ANNA)
    with pytest.raises(QuotaFull):
        plan(Ids([1, 2]), Priority.LOW, ANNA)


def test_what_was_accepted_before_is_answered_again_without_room(api: Api) -> None:
    one = submit(api, ANNA, 10, key="k")
    assert submit(api, ANNA, 10, key="k") == one
    refused_for(api, ANNA, 1)


def test_what_is_given_up_makes_room_at_once(api: Api) -> None:
    one = submit(api, ANNA, 10)
    api.parts.service.operator.cancel(one, ANNA)
    submit(api, ANNA, 10)


def test_what_is_tried_again_counts_as_well(api: Api) -> None:
    """For the key that has submitted it, which may have too much waiting by then.

    Whoever else has it tried again is not held up, and has as much room as before.
    """
    api.upstream.reply = replies(NO, NO, FINE)
    one = submit(api, ANNA, 4)
    api.advance(8)
    submit(api, ANNA, 9)
    api.advance(0.1)
    with pytest.raises(QuotaFull):
        api.parts.service.operator.retry(one, ANNA._replace(max_queued_items=9))
    full = Caller("operator", max_queued_items=1)
    assert api.parts.service.operator.retry(one, full) == 4
    refused_for(api, ANNA, 1)
    submit(api, full, 1)


def test_what_waits_over_a_restart_still_counts(tmp_path: Path) -> None:
    with restarting(tmp_path / "journal.sqlite3", Settings(settle=0, batch_size_ids=2)) as lives:
        submit(lives.api, ANNA, 10)
        lives.api.advance(1)
        lives.crash(down=1)
        submit(lives.api, ANNA, 2)
        refused_for(lives.api, ANNA, 1)


KEYS = (None, "anna", "bert")
deeds = st.lists(
    st.tuples(
        st.sampled_from(["submit", "submit", "cancel", "move", "retry", "delete", "wait", "crash"]),
        st.sampled_from(KEYS),
        st.integers(0, 9),
        st.sampled_from(Priority),
    ),
    min_size=1,
    max_size=15,
)


@given(deeds=deeds)
@hypothesis_settings(max_examples=60)
def test_the_sums_are_what_a_recount_gives(
    tmp_path_factory: pytest.TempPathFactory,
    deeds: list[tuple[str, str | None, int, Priority]],
) -> None:
    """After any history, a crash included."""
    path = tmp_path_factory.mktemp("sums") / "journal.sqlite3"
    with restarting(path, Settings(settle=0, interval=1.0, batch_size_ids=2)) as lives:
        lives.api.upstream.reply = half
        submitted: list[str] = []
        for what, key, number, priority in deeds:
            perform(lives, submitted, what, key, number, priority)
            recount(lives.api)


def perform(
    lives: Restarts,
    submitted: list[str],
    what: str,
    key: str | None,
    number: int,
    priority: Priority,
) -> None:
    """Do it, if that can be done."""
    operator, caller = lives.api.parts.service.operator, Caller(key)
    if what == "submit":
        submitted.append(submit(lives.api, caller, number + 1, priority))
    elif what == "wait":
        lives.api.advance(number)
    elif what == "crash":
        lives.crash(down=number)
    elif submitted:
        one = submitted[number % len(submitted)]
        acts: dict[str, Callable[[], object]] = {
            "cancel": lambda: operator.cancel(one, caller),
            "move": lambda: operator.move(one, priority, caller),
            "retry": lambda: operator.retry(one, caller),
            "delete": lambda: operator.delete(one, caller),
        }
        with suppress(IngestServiceError):
            acts[what]()


def recount(api: Api) -> None:
    """Compare what a limit allows with everything that is listed as waiting."""
    listed = api.parts.service.queries.ingestions(ListQuery(2**62, 1_000))
    for key in ("anna", "bert"):
        waiting = sum(one.counts.queued for one in listed if one.submitted_by == key)
        plan = api.parts.service.submissions.plan
        plan(Ids([1]), Priority.LOW, Caller(key, max_queued_items=waiting + 1))
        with pytest.raises(QuotaFull):
            plan(Ids([1, 2]), Priority.LOW, Caller(key, max_queued_items=waiting + 1))
