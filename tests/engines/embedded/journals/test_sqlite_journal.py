"""What the journal in a file promises beyond what every journal does: it comes back."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest

from ingest_service.domain.ingestion import Submission
from ingest_service.domain.items import Ids, Mappings
from ingest_service.domain.model import Batch, ItemState, Outcome, states_of
from ingest_service.engines import Hold, IdempotencyKey, OperatorState
from ingest_service.engines.audit import Mark, MarkKind
from ingest_service.engines.embedded.journal import (
    Cancelled,
    Finished,
    Moved,
    OperatorChanged,
    Recovered,
    Reopened,
    Sent,
    Settled,
)
from ingest_service.engines.embedded.journals import statements
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.errors import IdempotencyMismatch, JournalUnusable, StorageUnavailable
from tests.engines.embedded.journals.conftest import Reopen
from tests.engines.embedded.journals.support import (
    BAD,
    GOOD,
    LATER,
    MAPPING,
    NOW,
    accept,
    ingestion,
    instant,
    settle,
    start,
    started,
    take,
)
from tests.realtime import eventually
from tests.uncollected import alive, uncollected


def test_unfinished_work_is_recovered_in_its_order(reopened: Reopen) -> None:
    """With the same sequences, so that nothing overtakes over a restart."""
    journal = reopened()
    accepted = [ingestion(number, Mappings([MAPPING])) for number in (1, 2, 3)]
    for one in accepted:
        accept(journal, one)
    settle(journal, accepted[1], start(journal, accepted[1]), GOOD)

    recovered = reopened().recover()

    assert [one.sequence for one in recovered.unfinished] == [1, 3]
    assert list(recovered.unfinished[0].submission.items) == [MAPPING]
    assert recovered.last_sequence == 3
    assert recovered.last_slot == instant()
    assert not recovered.unsettled


def test_a_submission_is_let_go_once_it_is_written_or_refused(reopened: Reopen) -> None:
    """Not when the next one comes, or the collector."""
    journal = reopened()
    accept(journal, ingestion(1), IdempotencyKey("k", b"content"))

    def submit(sequence: int, content: bytes) -> None:
        # What `pytest.raises` has seen it would keep.
        with suppress(IdempotencyMismatch):
            accept(journal, ingestion(sequence), IdempotencyKey("other", content))
            accept(journal, ingestion(sequence + 1), IdempotencyKey("k", content))
            pytest.fail("it was accepted")

    with uncollected():
        submit(70_000, b"other content")
        eventually(
            "nothing holds them",
            lambda: not alive(Submission, lambda each: each.sequence >= 70_000),
        )


def test_the_pace_goes_on_from_when_a_request_really_went_out(reopened: Reopen) -> None:
    """Later than the slot if connecting took long; no earlier, and not by another clock."""
    journal, accepted = reopened(), ingestion(1, Ids([1, 2, 3]))
    accept(journal, accepted)
    batch = start(journal, accepted)
    for sent in (instant(1.5), instant(0.5), instant(9)._replace(boot_id="other")):
        journal.record(Sent(batch, sent, None))

    recovered = reopened().recover()

    assert recovered.last_slot == instant(1.5)
    assert recovered.unsettled


def test_slots_are_what_they_were_said_to_be(reopened: Reopen) -> None:
    """However often a start is recorded: a slow commit is repeated."""
    journal, accepted = reopened(), ingestion(1)
    accept(journal, accepted)
    batch = take(accepted)
    for seconds in (0, 1, 2):
        journal.record(started(batch, 7, seconds))

    assert reopened().recover().slots == 7


def test_an_empty_journal_has_nothing_to_go_on_with(reopened: Reopen) -> None:
    """No work, no sequence, no slot."""
    recovered = reopened().recover()

    assert recovered == Recovered(unfinished=[], retries=[], hopeless=[])


def test_a_batch_in_flight_at_the_crash_is_sent_again_before_the_rest(reopened: Reopen) -> None:
    """With the same id, as the same attempt: nobody knows how it ended; settled ones are not."""
    journal, accepted = reopened(), ingestion(1, Ids(range(1, 10)))
    accept(journal, accepted)
    settle(journal, accepted, start(journal, accepted), GOOD, BAD, GOOD)
    lost = start(journal, accepted)

    recovered = reopened().recover()
    (unfinished,) = recovered.unfinished
    again, rest = take(unfinished), take(unfinished)

    assert (again.batch_id, again.items, again.attempt) == (lost.batch_id, [4, 5, 6], 1)
    assert (lost.start_no, again.start_no) == (1, 2)
    assert (rest.items, rest.attempt, unfinished.batches_left) == ([7, 8, 9], 1, 0)
    assert unfinished.counts.succeeded == 2
    assert unfinished.counts.status.value == "started"
    assert recovered.unsettled


def test_a_batch_that_was_settled_after_it_was_lost_is_settled(reopened: Reopen) -> None:
    """Only the last start of a batch tells whether it has an end."""
    accepted = ingestion(1)
    accept(reopened(), accepted)
    start(reopened(), accepted)
    journal = reopened()
    (recovered,) = journal.recover().unfinished
    settle(journal, recovered, start(journal, recovered, 2), GOOD, GOOD, GOOD)

    last = reopened().recover()

    assert not last.unsettled
    assert take(last.unfinished[0]).items == [4]


def test_a_batch_that_was_started_three_times_without_an_end_is_hopeless(reopened: Reopen) -> None:
    """It may well be what crashes the service."""
    accepted = ingestion(1)
    accept(reopened(), accepted)
    for _ in range(3):
        journal = reopened()
        (recovered,) = journal.recover().unfinished
        journal.record(started(take(recovered)))

    last = reopened().recover()

    assert [batch.items for batch in last.hopeless] == [[1, 2, 3]]
    assert take(last.unfinished[0]).items == [4]
    assert last.unsettled


def test_what_waits_for_its_next_attempt_still_does(reopened: Reopen) -> None:
    """With the same items, due at the same time, as the same attempt."""
    journal, accepted = reopened(), ingestion(1, Ids([1, 2, 3]))
    accept(journal, accepted)
    batch = start(journal, accepted)
    due = NOW + timedelta(seconds=30)
    journal.record(Settled(batch, NOW, [GOOD, LATER, LATER], batch.pick([1, 2], 2), due))

    recovered = reopened().recover()

    ((at, ingestion_id, resend),) = recovered.retries
    assert (at, ingestion_id) == (due, accepted.ingestion_id)
    assert (resend.start_no, resend.attempt, list(resend.offsets)) == (2, 2, [1, 2])
    assert (recovered.unfinished[0].batches_left, recovered.unsettled) == (0, False)
    assert recovered.unfinished[0].counts.retrying == 2


def cancelled_with_a_batch_under_way(journal: SqliteJournal) -> Batch:
    """Cancel an ingestion of three batches, the first one settled and the second one started."""
    accepted = ingestion(1, Ids(range(1, 10)))
    accept(journal, accepted)
    settle(journal, accepted, start(journal, accepted), GOOD, GOOD, GOOD)
    under_way = start(journal, accepted, 2)
    journal.record(Cancelled(1, accepted.ingestion_id, NOW))
    return under_way


def test_what_was_under_way_when_it_was_cancelled_is_sent_again_and_nothing_else(
    reopened: Reopen,
) -> None:
    """Until that has ended it is not finished; then somebody can finish it."""
    lost = cancelled_with_a_batch_under_way(reopened())

    recovered = reopened().recover()

    (unfinished,) = recovered.unfinished
    assert (unfinished.cancelled, unfinished.finished_at) == (True, None)
    assert (unfinished.counts.retrying, unfinished.counts.cancelled) == (3, 3)
    assert (unfinished.counts.succeeded, unfinished.batches_left) == (3, 1)
    assert recovered.unsettled
    again = take(unfinished)
    assert (again.batch_id, again.start_no, again.items) == (lost.batch_id, 2, [4, 5, 6])
    unfinished.start(again, NOW)
    unfinished.settle(again, states_of([GOOD, LATER, BAD]), NOW)
    assert unfinished.finished_at == NOW
    assert unfinished.counts == (9, 0, 0, 4, 1, 4, 0)


def test_a_cancelled_ingestion_is_open_while_a_hopeless_batch_is(reopened: Reopen) -> None:
    """Whoever finds out that it is hopeless settles it, and that finishes it."""
    cancelled_with_a_batch_under_way(reopened())
    for _ in range(2):
        journal = reopened()
        (unfinished,) = journal.recover().unfinished
        journal.record(started(take(unfinished)))

    recovered = reopened().recover()

    (unfinished,), (hopeless,) = recovered.unfinished, recovered.hopeless
    assert (unfinished.finished_at, unfinished.batches_left) == (None, 0)
    unfinished.settle(hopeless, states_of([BAD] * 3), NOW)
    assert unfinished.finished_at == NOW


def test_retries_of_a_cancelled_ingestion_are_given_up(reopened: Reopen) -> None:
    """Nothing is under way then: it has ended when it was cancelled."""
    journal, accepted = reopened(), ingestion(1, Ids([1, 2, 3]))
    accept(journal, accepted)
    batch = start(journal, accepted)
    journal.record(Settled(batch, NOW, [LATER] * 3, batch.pick(range(3), 2), NOW))
    later = NOW + timedelta(seconds=9)
    journal.record(Cancelled(1, accepted.ingestion_id, later))

    recovered = reopened().recover()

    assert recovered.retries == []
    assert recovered.unfinished[0].counts.cancelled == 3
    assert recovered.unfinished[0].finished_at == later


def test_an_end_that_was_not_recorded_is_there_to_be_recorded(reopened: Reopen) -> None:
    """The last batch was settled, and then it went dark."""
    journal, accepted = reopened(), ingestion(1, Ids([1, 2, 3]))
    accept(journal, accepted)
    batch = start(journal, accepted)
    journal.record(Settled(batch, NOW + timedelta(seconds=3), [GOOD, BAD, GOOD]))

    (unfinished,) = reopened().recover().unfinished

    assert unfinished.counts.status.final
    assert unfinished.finished_at == NOW + timedelta(seconds=3)
    assert unfinished.batches_left == 0


def test_a_reopened_ingestion_goes_on_after_a_restart(reopened: Reopen) -> None:
    """Also one that was cancelled: that is undone with its end."""
    journal, accepted = reopened(), ingestion(1, Ids([1, 2, 3]))
    accept(journal, accepted)
    settle(journal, accepted, start(journal, accepted), GOOD, BAD, BAD)
    journal.record(Cancelled(1, accepted.ingestion_id, NOW))
    failed = accepted.failed_batches(journal.start_counts(accepted.ingestion_id))
    journal.record(Reopened(1, accepted.ingestion_id, NOW, failed))

    recovered = reopened().recover()

    ((at, _, resend),) = recovered.retries
    assert (at, resend.start_no, list(resend.offsets)) == (NOW, 3, [1, 2])
    (unfinished,) = recovered.unfinished
    assert (unfinished.cancelled, unfinished.finished_at) == (False, None)
    assert unfinished.counts.retrying == 2


def test_all_changes_of_a_record_are_written_or_none(reopened: Reopen) -> None:
    """The third one is a bug."""
    journal, accepted = reopened(), ingestion(1, Ids([1]))
    accept(journal, accepted)
    batch = take(accepted)
    broken = Finished(2**63, accepted.ingestion_id, NOW, bytes([2]), accepted.counts)
    with pytest.raises(StorageUnavailable):
        journal.record(started(batch), Settled(batch, NOW, [GOOD]), broken)

    assert journal.results(accepted.ingestion_id, [0]) == {}
    recovered = reopened().recover()
    assert (recovered.slots, recovered.unfinished[0].batches_left) == (0, 1)


def test_keys_survive_a_restart(reopened: Reopen) -> None:
    """Whoever did not get the answer before the crash gets it after it."""
    key, first = IdempotencyKey("k", b"content"), ingestion(1)
    accept(reopened(), first, key)

    assert accept(reopened(), ingestion(2), key) == first.ingestion_id


def test_what_the_operator_wants_survives_a_restart(reopened: Reopen) -> None:
    """All of it, exactly; the last word counts."""
    hold = Hold(datetime(2026, 1, 1, 13, 0, 0, 250, tzinfo=UTC), 1234.5678, "boot")
    state = OperatorState(
        "lunch \ud83c\udf7d".encode("utf-16", "surrogatepass").decode("utf-16"), 0.1, 5.0, hold
    )
    journal = reopened()
    assert journal.recover().operator is None
    journal.record(OperatorChanged(OperatorState(paused="")))
    journal.record(OperatorChanged(state), Mark(NOW, MarkKind.HOLD, None, {"until": 9}))

    assert reopened().recover().operator == state


def test_what_a_later_version_adds_to_the_operators_state_is_ignored(
    path: Path, reopened: Reopen
) -> None:
    """Going back a version is not the moment to be strict."""
    reopened().record(OperatorChanged(OperatorState(interval=2.5)))
    reopened().close()
    with apsw.Connection(str(path)) as db:
        db.execute("UPDATE operator SET state = json_set(state, '$.colour', 'red', '$.hold', null)")
    db.close()

    assert reopened().recover().operator == OperatorState(interval=2.5)


def test_a_second_process_is_refused_in_words(path: Path) -> None:
    """Two paces would be twice the rate."""
    journal = SqliteJournal(path)
    with pytest.raises(JournalUnusable, match="another process uses this journal"):
        SqliteJournal(path)
    journal.close()
    SqliteJournal(path).close()


def test_a_closed_journal_takes_nothing(path: Path) -> None:
    """Instead of waiting for a thread that is gone."""
    journal = SqliteJournal(path)
    journal.close()
    with pytest.raises(StorageUnavailable):
        journal.check()
    with pytest.raises(StorageUnavailable):
        accept(journal, ingestion(1))


def test_a_file_that_is_no_journal_is_refused_with_what_to_do(path: Path) -> None:
    """And left as it is."""
    path.write_bytes(b"something else entirely" * 1000)
    with pytest.raises(JournalUnusable, match="put a backup in its place"):
        SqliteJournal(path)
    assert path.read_bytes().startswith(b"something else")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A typing error in the setting is the likely cause."""
    with pytest.raises(JournalUnusable, match=r"nowhere.*is the folder there"):
        SqliteJournal(tmp_path / "nowhere" / "journal.sqlite3")


def test_the_statements_in_the_files_are_all_in_use() -> None:
    """Nothing is left over in the SQL."""
    folder = Path(statements.__file__).parent
    source = "".join(module.read_text("utf-8") for module in folder.glob("*.py"))
    names = set(statements.SQL)
    assert names == {name for name in names if f'"{name}"' in source}


def test_a_refused_batch_of_changes_leaves_nothing_of_its_outcomes(reopened: Reopen) -> None:
    """An item whose move was recorded together with what could not be is where it was."""
    journal, accepted = reopened(), ingestion(1, Ids([1]))
    accept(journal, accepted)
    batch = start(journal, accepted)
    unspeakable = Outcome(succeeded=True, processed_data=object())
    with pytest.raises(TypeError):
        journal.record(
            Moved(1, accepted.ingestion_id, accepted.priority), Settled(batch, NOW, [unspeakable])
        )

    (unfinished,) = reopened().recover().unfinished
    assert unfinished.item_states == bytes([ItemState.RETRYING])
