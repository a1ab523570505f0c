"""What every journal promises of outcomes: they come back exactly, or are refused."""

from datetime import timedelta

import pytest

from ingest_service.domain.items import Ids
from ingest_service.domain.model import Outcome, Priority
from ingest_service.engines.embedded.journal import (
    Journal,
    Moved,
    Settled,
)
from tests.engines.embedded.journals.support import (
    BAD,
    GOOD,
    LATER,
    NOW,
    accept,
    finish,
    ingestion,
    newest,
    settle,
    start,
    started,
)


def test_results_come_back_as_they_were_settled(journal: Journal) -> None:
    """By index of the batch and place in it, also while the rest is unsettled."""
    accepted = ingestion(1)
    accept(journal, accepted)
    settle(journal, accepted, start(journal, accepted), GOOD, BAD, GOOD)
    start(journal, accepted)

    results = journal.results(accepted.ingestion_id, range(2))

    assert {at: result.outcome for at, result in results.items()} == {
        (0, 0): GOOD,
        (0, 1): BAD,
        (0, 2): GOOD,
    }
    assert results[0, 0].at == NOW


def test_only_the_batches_asked_for_come_back(journal: Journal) -> None:
    """Pages of results do not read the others."""
    accepted = ingestion(1, Ids(range(1, 31)))
    finish(journal, accepted)

    assert {index for index, _ in journal.results(accepted.ingestion_id, [4, 5])} == {4, 5}
    assert journal.results(accepted.ingestion_id, []) == {}
    assert journal.results("nobody", [0]) == {}


def test_settling_a_batch_twice_changes_nothing(journal: Journal) -> None:
    """A worker that could not tell whether it was recorded repeats it."""
    accepted = ingestion(1, Ids([1]))
    accept(journal, accepted)
    batch = start(journal, accepted)
    for seconds in range(2):
        journal.record(Settled(batch, NOW + timedelta(seconds=seconds), [BAD]))

    results = journal.results(accepted.ingestion_id, [0])

    assert [(result.at, result.outcome) for result in results.values()] == [(NOW, BAD)]


def test_what_an_item_was_not_settled_with_at_once_comes_from_a_later_start(
    journal: Journal,
) -> None:
    """Each start of a batch settles some of its items."""
    accepted = ingestion(1, Ids([1, 2, 3]))
    accept(journal, accepted)
    batch = start(journal, accepted)
    resend = batch.pick([1], 2)
    journal.record(Settled(batch, NOW, [GOOD, LATER, BAD], resend, NOW))
    again = accepted.batch(resend)
    journal.record(started(again, 2))
    later = NOW + timedelta(seconds=9)
    journal.record(Settled(again, later, [Outcome(succeeded=True, attempts=2)]))

    results = journal.results(accepted.ingestion_id, [0])

    assert {at: result.outcome for at, result in results.items()} == {
        (0, 0): GOOD,
        (0, 1): Outcome(succeeded=True, attempts=2),
        (0, 2): BAD,
    }
    assert (results[0, 0].at, results[0, 1].at) == (NOW, later)
    assert journal.start_counts(accepted.ingestion_id) == {0: 2}


@pytest.mark.parametrize("data", [2**64, -(10**40), {"deep": [{"n": 2**70, "x": 1.5}]}])
def test_integers_of_any_size_come_back_exactly(journal: Journal, data: object) -> None:
    """An upstream's numbers are not ours to round."""
    accepted = ingestion(1, Ids([1]))
    accept(journal, accepted)
    settle(journal, accepted, start(journal, accepted), Outcome(True, data, status_code=200))

    (result,) = journal.results(accepted.ingestion_id, [0]).values()

    assert result.outcome == Outcome(True, data, status_code=200)


@pytest.mark.parametrize(
    "data",
    [{1, 2}, {"a": 2**64, "b": {1}}, 10**5000, "\ud800"],
    ids=["set", "set beside an integer", "too many digits", "half a character"],
)
def test_what_json_cannot_say_is_refused_and_nothing_is_recorded(
    journal: Journal, data: object
) -> None:
    """Also together with an integer that needs a detour, and with other changes before it."""
    accepted = ingestion(1, Ids([1]))
    accept(journal, accepted)
    batch = start(journal, accepted)
    with pytest.raises(TypeError):
        journal.record(
            Moved(1, accepted.ingestion_id, Priority.HIGH),
            Settled(batch, NOW, [Outcome(succeeded=True, processed_data=data)]),
        )
    assert journal.results(accepted.ingestion_id, [0]) == {}
    settle(journal, accepted, batch, GOOD)
    assert journal.finished(newest())[0].priority is Priority.LOW


def test_values_nested_too_deeply_are_refused(journal: Journal) -> None:
    """With a large integer inside as without one."""
    accepted = ingestion(1, Ids([1]))
    accept(journal, accepted)
    batch = start(journal, accepted)
    for deepest in (1, 2**64):
        data: object = deepest
        for _ in range(2_000):
            data = [data]
        with pytest.raises(TypeError):
            journal.record(Settled(batch, NOW, [Outcome(succeeded=True, processed_data=data)]))
