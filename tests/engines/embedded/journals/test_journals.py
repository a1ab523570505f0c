"""What every journal promises."""

import threading
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from ingest_service.domain.items import Ids, Items, Mappings
from ingest_service.domain.model import ItemState, OutcomeWord, Priority
from ingest_service.engines import IdempotencyKey, OperatorState
from ingest_service.engines.audit import Action, AuditEntry, AuditQuery, Mark, MarkKind
from ingest_service.engines.embedded.journal import (
    FINISHED_VERSION,
    Deleted,
    Journal,
    Moved,
    OperatorChanged,
    Reopened,
    Sent,
)
from ingest_service.errors import IdempotencyMismatch
from tests.engines.embedded.journals.support import (
    BAD,
    GOOD,
    MAPPING,
    NOW,
    accept,
    cancel,
    finish,
    ingestion,
    instant,
    newest,
    settle,
    start,
    started,
    take,
)


@pytest.mark.parametrize("items", [Ids([7, 7, 1_000_000_007]), Mappings([MAPPING])])
def test_a_finished_ingestion_can_be_found_as_it_was(journal: Journal, items: Items) -> None:
    """With its items, states and times; an unfinished one is not the journal's to show."""
    accepted = ingestion(1, items)
    accept(journal, accepted)
    assert journal.find(accepted.ingestion_id, range(1)) is None
    assert journal.load(accepted.ingestion_id) is None
    batch = start(journal, accepted)
    settle(journal, accepted, batch, *[BAD] * len(items))

    loaded = journal.load(accepted.ingestion_id)

    assert loaded is not None
    assert list(loaded.submission.items) == list(items)
    assert loaded.counts == accepted.counts
    assert (loaded.submission.created_at, loaded.started_at, loaded.finished_at) == (NOW, NOW, NOW)
    assert loaded.priority is Priority.LOW
    assert (loaded.batches_left, loaded.cancelled) == (0, False)


def test_a_page_of_a_finished_ingestion_has_its_keys_and_states(journal: Journal) -> None:
    """From the first item of its first batch to the last item there is."""
    accepted = ingestion(1, Ids(range(1, 8)))
    finish(journal, accepted)

    page = journal.find(accepted.ingestion_id, range(1, 9))

    assert page is not None
    assert (page.first_batch, list(page.keys)) == (1, [4, 5, 6, 7])
    assert page.states == bytes([ItemState.SUCCEEDED] * 4)
    assert (page.batches_total, page.counts.succeeded, page.counts.total) == (3, 7, 7)
    assert page.version == FINISHED_VERSION
    for batches in (range(0), range(3, 4), range(50, 60)):
        empty = journal.find(accepted.ingestion_id, batches)
        assert empty is not None
        assert (list(empty.keys), empty.states) == ([], b"")


@pytest.mark.parametrize("total", [4_095, 4_096, 4_097, 9_000, 33_000])
def test_pages_fit_together_wherever_the_pieces_end(journal: Journal, total: int) -> None:
    """Batches do not know how items are stored."""
    accepted = ingestion(1, Ids(range(1, total + 1)), batch_size=7)
    accept(journal, accepted)
    cancel(journal, accepted)
    name = accepted.ingestion_id

    for first in (0, 584, 585, 586, 1_169, 1_170, 4_681, 4_682, accepted.submission.batches_total):
        page = journal.find(name, range(first, first + 2))
        assert page is not None
        expected = list(range(1, total + 1))[first * 7 : (first + 2) * 7]
        assert list(page.keys) == expected
        assert page.states == bytes([ItemState.CANCELLED] * len(expected))
        keys = journal.keys(name, [first, first + 1])
        assert [key for of_batch in keys.values() for key in of_batch] == expected
    assert journal.item_states(name) == bytes([ItemState.CANCELLED] * total)
    assert journal.item_states("nobody") == b""


def test_keys_can_be_had_of_any_batches(journal: Journal) -> None:
    """Also while the ingestion is unfinished, and of those that are not side by side."""
    mappings = [{"id": f"m{n}", "source": "s", "target": "t"} for n in range(2_000)]
    accepted = ingestion(1, Mappings(mappings), batch_size=2)
    accept(journal, accepted)

    keys = journal.keys(accepted.ingestion_id, [999, 3, 256, 255])

    assert dict(keys) == {
        3: ["m6", "m7"],
        255: ["m510", "m511"],
        256: ["m512", "m513"],
        999: ["m1998", "m1999"],
    }
    assert journal.keys("nobody", [0]) == {}


def test_a_key_stands_for_its_first_request_for_a_day(journal: Journal) -> None:
    """The same content gets the same id, another content is refused, a day later it is free."""
    key, other = IdempotencyKey("k", b"content"), IdempotencyKey("k", b"other content")
    first, again = ingestion(1), ingestion(2)
    much_later = ingestion(3, at=NOW + timedelta(hours=24, seconds=1))

    assert accept(journal, first, key) == first.ingestion_id
    assert accept(journal, again, key) == first.ingestion_id
    assert journal.find_key(key, NOW) == first.ingestion_id
    with pytest.raises(IdempotencyMismatch):
        accept(journal, ingestion(4), other)
    with pytest.raises(IdempotencyMismatch):
        journal.find_key(other, NOW)
    assert journal.find_key(key, NOW + timedelta(hours=24)) is None
    assert accept(journal, much_later, other) == much_later.ingestion_id


def test_what_is_answered_is_visible(journal: Journal) -> None:
    """`then` runs before the first answer and before a replay's; not for another's id."""
    key = IdempotencyKey("k", b"content")
    visible: set[str] = set()
    unseen: list[str] = []
    barrier = threading.Barrier(8)

    def post(sequence: int) -> None:
        for turn in range(50):
            mine = ingestion(100 * turn + sequence)
            barrier.wait(10)
            turn_key = IdempotencyKey(f"{key.key}{turn}", key.digest)
            then = partial(visible.add, mine.ingestion_id)
            answer = journal.accept(mine.submission, turn_key, then)
            stands_for = answer.result(10)
            if stands_for not in visible or (mine.ingestion_id in visible) != (
                stands_for == mine.ingestion_id
            ):
                unseen.append(stands_for)

    threads = [threading.Thread(target=post, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(visible) == 50
    assert unseen == []


def test_a_key_that_is_looked_up_is_that_of_something_visible(journal: Journal) -> None:
    """A replay is often answered by a look alone."""
    key, accepted = IdempotencyKey("k", b"content"), ingestion(1)
    about_to, go_on, visible = threading.Event(), threading.Event(), threading.Event()

    def then() -> None:
        about_to.set()
        go_on.wait(10)
        visible.set()

    posting = threading.Thread(target=journal.accept, args=(accepted.submission, key, then))
    posting.start()
    assert about_to.wait(10)
    looked_up: list[tuple[str | None, bool]] = []
    looking = threading.Thread(
        target=lambda: looked_up.append((journal.find_key(key, NOW), visible.is_set()))
    )
    looking.start()
    looking.join(0.1)
    go_on.set()
    looking.join(10)
    posting.join(10)

    assert looked_up == [(accepted.ingestion_id, True)]


def test_a_bug_in_making_it_visible_is_told_to_whoever_waits(journal: Journal) -> None:
    """And to nobody else."""

    def then() -> None:
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        journal.accept(ingestion(1).submission, None, then).result(10)
    accept(journal, ingestion(2))


def test_lists_show_the_finished_ones_from_the_newest_on(journal: Journal) -> None:
    """By their order of arrival, page by page, whatever the order in which they finished."""
    accepted = [ingestion(number, Ids([1])) for number in range(1, 11)]
    for one in (*accepted[5:], *accepted[:5]):
        finish(journal, one)
    accept(journal, ingestion(11))
    seen: list[int] = []
    before = 99
    while page := journal.finished(newest(3, before)):
        seen += [snapshot.sequence for snapshot in page]
        before = seen[-1]

    assert seen == list(range(10, 0, -1))


def test_lists_pick_by_word_outcome_class_and_age(journal: Journal) -> None:
    """Clients of ids call everything completed; those of mappings call a cancelled one failed."""
    one = {"id": "a", "source": "s", "target": "t"}
    kinds: list[Items] = [Ids([1, 2]), Mappings([one, one])]
    for sequence, (items, outcomes) in enumerate(
        (items, outcomes)
        for items in kinds
        for outcomes in ([GOOD, GOOD], [GOOD, BAD], [BAD, BAD], [])
    ):
        accepted = ingestion(sequence, items)
        accept(journal, accepted)
        if outcomes:
            settle(journal, accepted, start(journal, accepted), *outcomes)
        else:
            cancel(journal, accepted)

    def listed(**which: Any) -> list[int]:
        return [snapshot.sequence for snapshot in journal.finished(newest(**which))]

    assert listed(word="completed") == [5, 4, 3, 2, 1, 0]
    assert listed(word="failed") == [7, 6]
    assert listed(word="triggered") == []
    assert listed(outcome=OutcomeWord.SUCCEEDED) == [4, 0]
    assert listed(outcome=OutcomeWord.PARTIALLY_FAILED) == [5, 1]
    assert listed(outcome=OutcomeWord.FAILED) == [6, 2]
    assert listed(outcome=OutcomeWord.CANCELLED) == [7, 3]
    assert listed(outcome=OutcomeWord.CANCELLED, word="completed") == [3]
    assert listed(priority=Priority.HIGH) == []
    assert len(listed(priority=Priority.LOW)) == 8
    old = newest()
    assert journal.finished(type(old)(99, 9, NOW + timedelta(seconds=1))) == []


def test_what_is_moved_is_shown_in_its_new_class(journal: Journal) -> None:
    """In lists and by itself."""
    accepted = ingestion(1, Ids([1]))
    accept(journal, accepted)
    journal.record(Moved(1, accepted.ingestion_id, Priority.HIGH))
    settle(journal, accepted, start(journal, accepted), GOOD)

    assert [one.priority for one in journal.finished(newest())] == [Priority.HIGH]
    loaded = journal.load(accepted.ingestion_id)
    assert loaded is not None
    assert loaded.priority is Priority.HIGH


def test_a_reopened_ingestion_is_not_finished_until_it_ends_once_more(journal: Journal) -> None:
    """Failed items get their second outcome, the others keep theirs."""
    accepted = ingestion(1, Ids([1, 2, 3]))
    accept(journal, accepted)
    settle(journal, accepted, start(journal, accepted), GOOD, BAD, BAD)
    failed = accepted.failed_batches(journal.start_counts(accepted.ingestion_id))

    journal.record(Reopened(1, accepted.ingestion_id, NOW, failed))
    accepted.reopen(failed)
    assert journal.find(accepted.ingestion_id, range(1)) is None
    assert journal.finished(newest()) == []
    assert journal.oldest_finished() is None
    settle(journal, accepted, start(journal, accepted), GOOD, BAD)

    (snapshot,) = journal.finished(newest())
    assert (snapshot.counts.succeeded, snapshot.counts.failed) == (2, 1)
    results = journal.results(accepted.ingestion_id, [0])
    assert [results[0, at].outcome for at in range(3)] == [GOOD, GOOD, BAD]
    assert journal.start_counts(accepted.ingestion_id) == {0: 3}


def test_the_rate_proof_counts_by_the_wire_where_that_is_known(journal: Journal) -> None:
    """The smallest gap counts; of a start that nobody saw on the wire, that of the start."""
    accepted = ingestion(1, Ids(range(1, 13)))
    accept(journal, accepted)
    batches = [take(accepted) for _ in range(4)]
    for number, (batch, gap) in enumerate(zip(batches, (None, 5.0, 5.1, 4.0), strict=True)):
        journal.record(started(batch, number + 1, 5.0 * number, gap))
    journal.record(Sent(batches[0], instant(0.5), None))
    journal.record(Sent(batches[1], instant(5.2), 4.7))
    journal.record(Sent(batches[1], instant(5.4), 4.9))
    journal.record(Sent(batches[2], instant(10.2), 5.0))

    proof = journal.rate_proof(NOW, NOW + timedelta(seconds=99))

    assert (proof.starts, proof.smallest_gap, proof.violations) == (4, 4.0, 2)
    assert [(early.batch, early.gap, early.required) for early in proof.examples] == [
        (1, 4.7, 5.0),
        (3, 4.0, 5.0),
    ]
    assert journal.rate_proof(NOW + timedelta(seconds=15), NOW + timedelta(seconds=99)).starts == 1
    assert journal.rate_proof(NOW, NOW).smallest_gap is None


def test_a_start_that_is_recorded_once_more_is_one_start(journal: Journal) -> None:
    """After a slow commit: the later instant is the one that counts."""
    accepted = ingestion(1)
    accept(journal, accepted)
    batch = take(accepted)
    journal.record(started(batch, 1, 0.0, 4.0))
    journal.record(started(batch, 1, 1.0, 5.0))

    proof = journal.rate_proof(NOW, NOW + timedelta(seconds=9))

    assert (proof.starts, proof.smallest_gap, proof.violations) == (1, 5.0, 0)
    assert journal.rate_proof(NOW, NOW + timedelta(seconds=1)).starts == 0


def test_pruning_forgets_what_finished_before_and_nothing_else(journal: Journal) -> None:
    """Bit by bit, until nothing is left to forget."""
    old = [ingestion(number, Ids(range(1, 10))) for number in range(1, 60)]
    assert journal.oldest_finished() is None
    for one in old:
        finish(journal, one)
    unfinished = ingestion(100)
    accept(journal, unfinished)

    assert journal.oldest_finished() == NOW
    assert journal.prune(NOW) == 0
    while journal.prune(NOW + timedelta(seconds=1)):
        pass

    assert [one for one in old if journal.find(one.ingestion_id, range(1))] == []
    assert journal.finished(newest()) == []
    assert journal.oldest_finished() is None
    assert journal.results(old[0].ingestion_id, range(3)) == {}
    settle(journal, unfinished, start(journal, unfinished), GOOD, GOOD, GOOD)


def test_idempotency_keys_belong_to_the_api_key_that_came_with_them(journal: Journal) -> None:
    """Nobody's is one more owner."""
    owners = "anna", "bert", None
    ones = {owner: ingestion(number) for number, owner in enumerate(owners, 1)}
    keys = {owner: IdempotencyKey("k", f"of {owner}".encode(), owner) for owner in owners}
    for owner in owners:
        assert accept(journal, ones[owner], keys[owner]) == ones[owner].ingestion_id
    for owner in owners:
        assert journal.find_key(keys[owner], NOW) == ones[owner].ingestion_id


def entries(journal: Journal, **which: Any) -> list[AuditEntry]:
    """Return who did what, of any age."""
    period: dict[str, Any] = {
        "since": NOW - timedelta(days=99),
        "until": NOW + timedelta(days=99),
        "limit": 100,
    }
    return journal.audit(AuditQuery(**period | which))


def test_who_did_what_is_told_from_the_newest_on(journal: Journal) -> None:
    """Marks that somebody has made, and what was submitted; page by page."""
    first, second = ingestion(1, submitted_by="anna"), ingestion(2, at=NOW + timedelta(seconds=2))
    accept(journal, first)
    accept(journal, second)
    moved = Mark(NOW, MarkKind.MOVE, {"priority": "LOW"}, None, "bert", first.ingestion_id, "r")
    journal.record(Mark(NOW + timedelta(seconds=1), MarkKind.RESTART), moved)
    journal.record(Mark(NOW + timedelta(seconds=1), MarkKind.PAUSE, None, "lunch"))
    told = entries(journal)

    assert [entry[1:] for entry in told] == [
        (
            NOW + timedelta(seconds=2),
            None,
            Action.SUBMIT,
            second.ingestion_id,
            None,
            {"kind": "ids", "items": 4},
            "request-2",
        ),
        (NOW + timedelta(seconds=1), None, Action.PAUSE, None, None, "lunch", None),
        (NOW, "bert", Action.MOVE, first.ingestion_id, {"priority": "LOW"}, None, "r"),
        (
            NOW,
            "anna",
            Action.SUBMIT,
            first.ingestion_id,
            None,
            {"kind": "ids", "items": 4},
            "request-1",
        ),
    ]
    for number, entry in enumerate(told):
        assert entries(journal, before=entry.place) == told[number + 1 :]
    assert entries(journal, limit=2) == told[:2]
    assert entries(journal, key="anna") == told[3:]
    assert entries(journal, actions=[Action.MOVE]) == told[2:3]
    assert entries(journal, since=NOW + timedelta(seconds=1)) == told[:2]
    assert entries(journal, until=NOW + timedelta(seconds=1)) == told[2:]


def test_what_is_deleted_leaves_its_starts_and_that_it_was_submitted(journal: Journal) -> None:
    """In every other respect it was never there."""
    gone, other = ingestion(1, submitted_by="anna"), ingestion(2)
    key = IdempotencyKey("k", b"content", "anna")
    accept(journal, gone, key)
    while gone.batches_left:
        batch = start(journal, gone)
        settle(journal, gone, batch, *[GOOD] * len(batch.items))
    finish(journal, other)
    before = journal.rate_proof(NOW, NOW + timedelta(seconds=9))
    journal.record(Deleted(gone.sequence, gone.ingestion_id))

    assert journal.find(gone.ingestion_id, range(1)) is None
    assert journal.load(gone.ingestion_id) is None
    assert journal.item_states(gone.ingestion_id) == b""
    assert journal.keys(gone.ingestion_id, range(2)) == {}
    assert journal.results(gone.ingestion_id, range(2)) == {}
    assert journal.find_key(key, NOW) is None
    assert [one.ingestion_id for one in journal.finished(newest())] == [other.ingestion_id]
    assert len(journal.results(other.ingestion_id, range(2))) == 4
    assert journal.rate_proof(NOW, NOW + timedelta(seconds=9)) == before
    assert gone.ingestion_id in [entry.target for entry in entries(journal)]
    while journal.prune(NOW + timedelta(seconds=1)):
        pass
    assert entries(journal) == []


def test_what_the_operator_does_is_recorded_together_with_the_mark(journal: Journal) -> None:
    """Whatever the mark says about it."""
    journal.record(
        OperatorChanged(OperatorState(paused="lunch")),
        Mark(NOW, MarkKind.PAUSE, None, {"reason": "lunch"}),
    )


def test_a_journal_may_be_closed_twice(journal: Journal) -> None:
    """Whoever stops last does not have to know."""
    journal.check()
    journal.close()
    journal.close()
