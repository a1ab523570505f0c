"""Predictions against what then happens, for random histories."""

import itertools
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingest_service.domain.items import Ids
from ingest_service.domain.model import Batch, Ingestion, Outcome, Priority
from ingest_service.domain.schedule import (
    CYCLE,
    Classes,
    Due,
    Entry,
    Policy,
    Rhythm,
    Rule,
    Situation,
    choose,
    forecast,
    last_starts,
    slot_at,
    slots,
    slots_until_started,
    upcoming,
)
from ingest_service.settings import Settings
from tests.support import Api, serving

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PRIORITIES = st.sampled_from(Priority)
quarters = st.integers(0, 40).map(lambda n: n / 4)


def entry(sequence: int, priority: Priority, batches: int, since: float = 0.0) -> Entry:
    """Return the place of an ingestion with so many batches left."""
    ingestion = Ingestion(f"id-{sequence}", sequence, priority, Ids(range(batches)), 1, NOW)
    return Entry(priority, sequence, ingestion, since, since)


entries = st.lists(st.tuples(PRIORITIES, st.integers(1, 5), quarters), min_size=1, max_size=8).map(
    lambda found: [entry(n, *each) for n, each in enumerate(found)]
)
rhythms = st.builds(
    Rhythm,
    opens_at=quarters,
    interval=st.integers(1, 20).map(lambda n: n / 4),
    duration=quarters,
    concurrent=st.integers(1, 4),
    ends=st.lists(quarters, max_size=3).map(tuple),
)
rules = st.builds(Rule, st.sampled_from(Policy), st.sampled_from([5.0, 20.0]))


def classes(line: list[Entry]) -> Classes:
    """Return `line` class by class."""
    return tuple([each for each in line if each.priority == rank] for rank in Priority)


@st.composite
def situations(draw: st.DrawFn, rule: st.SearchStrategy[Rule] = rules) -> Situation:
    """Draw a moment in the life of a queue."""
    line = draw(entries)
    chosen = draw(st.lists(st.tuples(st.sampled_from(line), quarters), max_size=3))
    retries = [Due(at, each) for each, at in chosen]
    return Situation(
        now=draw(quarters),
        rule=draw(rule),
        rhythm=draw(rhythms),
        slot=draw(st.integers(0, 11)),
        classes=classes(line),
        retries=retries,
    )


@given(situation=situations(st.just(Rule())))
def test_the_sums_of_a_prediction_are_what_going_through_the_slots_gives(
    situation: Situation,
) -> None:
    """For every ingestion of any queue: place, batches ahead, next start, finish."""
    coming = list(slots(situation))
    for each in situation.line:
        mine = [slot for slot in coming if slot.entry.ingestion is each.ingestion]
        first = coming.index(mine[0])
        found = forecast(situation, each.ingestion)

        assert found is not None
        assert found.batches_ahead == first
        assert found.next_start_at == mine[0].at
        assert found.finish_at == mine[-1].at + situation.rhythm.duration
        assert last_starts(situation)[each.ingestion.ingestion_id] == mine[-1].at


@given(situation=situations())
def test_every_batch_gets_one_slot_and_slots_keep_the_interval(situation: Situation) -> None:
    """Under every policy, with any number of batches under way."""
    coming = list(slots(situation))
    at = [slot.at for slot in coming]
    batches = sum(each.ingestion.left for each in situation.line) + len(situation.retries)

    assert len(coming) == batches
    assert all(b - a >= situation.rhythm.interval for a, b in itertools.pairwise(at))
    assert upcoming(situation, 5) == coming[:5]
    for number, slot in enumerate(coming):
        under_way = [end for end in situation.rhythm.ends if max(end, situation.now) > slot.at]
        under_way += [a for a in at[:number] if a + situation.rhythm.duration > slot.at]
        assert len(under_way) < max(situation.rhythm.concurrent, len(situation.rhythm.ends) + 1)


@given(rhythm=rhythms, number=st.integers(0, 200))
def test_a_far_slot_is_where_counting_up_to_it_leads(rhythm: Rhythm, number: int) -> None:
    """The pattern that repeats itself is the right one."""
    rhythm = replace(rhythm, ends=())
    line = [entry(1, Priority.HIGH, number + 1)]
    situation = Situation(0.0, Rule(), rhythm, 0, classes(line))
    *_, last = slots(situation)

    assert slot_at(rhythm, 0.0, number) == last.at


@given(situation=situations(st.just(Rule(Policy.WEIGHTED))), seed=st.integers(0, 2**32))
@hypothesis_settings(max_examples=25)
def test_no_adversary_breaks_the_latest_finish_of_a_weighted_queue(
    situation: Situation, seed: int
) -> None:
    """Whatever arrives later, and however much of it, before every single slot."""
    situation = replace(situation, retries=[])
    chance = random.Random(seed)  # noqa: S311
    sequence = itertools.count(1_000)
    bounds = {
        each.ingestion.ingestion_id: found.latest_finish_at
        for each in situation.line
        if (found := forecast(situation, each.ingestion)) is not None
    }
    queues: dict[Priority, list[tuple[Entry, int]]] = {each: [] for each in Priority}
    for each in sorted(situation.line):
        queues[Priority(each.priority)].append((each, each.ingestion.left))
    ended = {}
    for number in range(250):
        for priority in Priority:
            if chance.random() < 0.5:
                queues[priority].append((entry(next(sequence), priority, 9), 9))
        heads = [queue[0][0] for queue in queues.values() if queue]
        if not heads:
            break
        at = slot_at(situation.rhythm, situation.now, number)
        served = heads[choose(heads, situation.rule, situation.slot + number, at)]
        queue = queues[Priority(served.priority)]
        _, left = queue.pop(0)
        if left > 1:
            queue.insert(0, (served, left - 1))
        else:
            ended[served.ingestion.ingestion_id] = at + situation.rhythm.duration

    for ingestion_id, bound in bounds.items():
        assert bound is not None
        assert ended[ingestion_id] <= bound


def test_under_the_weighted_policy_low_is_served_once_in_twelve_slots() -> None:
    """Over ten thousand slots in which all classes always wait; HIGH gets eight, MEDIUM three."""
    heads = [entry(each, each, 1) for each in Priority]
    rule = Rule(Policy.WEIGHTED)
    served = [heads[choose(heads, rule, slot, 0.0)].priority for slot in range(10_008)]

    windows = [served[start : start + 12] for start in range(10_000)]
    assert {(w.count(1), w.count(2), w.count(3)) for w in windows if len(w) == 12} == {(8, 3, 1)}
    assert len(CYCLE) == 12


def test_under_the_aged_policy_waiting_raises_the_class() -> None:
    """After ten minutes a class, so after twenty LOW is as urgent as HIGH, and came earlier."""
    old, new = entry(1, Priority.LOW, 1, since=0.0), entry(2, Priority.HIGH, 1, since=1_199.0)
    rule = Rule(Policy.AGED, 600.0)

    assert choose([new, old], rule, 0, 1_199.9) == 0
    assert choose([new, old], rule, 0, 1_200.0) == 1
    assert choose([new, old], Rule(), 0, 1_200.0) == 0


def test_an_ingestion_that_was_moved_there_and_back_stands_in_line_once() -> None:
    """However often; those behind it are told the same as before."""
    with serving(Settings(), threaded=False) as api:
        api.ingest([1], "HIGH")
        moved, behind = api.ingest(range(2, 11), "LOW"), api.ingest([11], "LOW")
        before = api.status(behind)["queue"]
        for priority in (Priority.HIGH, Priority.LOW) * 5:
            api.parts.service.control.move(moved, priority)

        assert api.status(behind)["queue"] == before == {"position": 3, "batches_ahead": 4}


def test_room_is_made_slot_by_slot() -> None:
    """Seven items of nine, three at a time, leave after three slots; none leave after none."""
    assert slots_until_started([(9, 3), (5, 5)], 7) == 3
    assert slots_until_started([(9, 3), (5, 5)], 10) == 4
    assert slots_until_started([(9, 3)], 0) == 0


@dataclass(frozen=True)
class Act:
    """Something that somebody does, `after` seconds after the act before."""

    after: float
    what: str
    which: int
    priority: Priority
    size: int


acts = st.lists(
    st.builds(
        Act,
        quarters,
        st.sampled_from(["submit", "submit", "submit", "cancel", "move", "pause", "retry"]),
        st.integers(0, 9),
        PRIORITIES,
        st.integers(1, 8),
    ),
    min_size=1,
    max_size=12,
)


def perform(api: Api, act: Act, known: list[str]) -> None:
    """Do it."""
    service = api.parts.service
    if act.what == "submit":
        ids = Ids(range(1, act.size + 1))
        known.append(service.accept(ids, act.priority).ingestion_id)
    elif act.what == "pause":
        service.control.pause("")
        api.advance(act.size / 2)
        service.control.resume()
    elif known:
        chosen = known[act.which % len(known)]
        if service.prospects(chosen) is None:
            if act.what == "retry" and not service.status(chosen, 0, 0).counts.cancelled:
                api.advance(0)
                service.control.retry(chosen)
        elif act.what == "cancel":
            service.control.cancel(chosen)
        elif act.what == "move":
            service.control.move(chosen, act.priority)


@given(
    history=acts,
    failing=st.lists(st.sampled_from(["good", "good", "bad", "later", "hold"]), max_size=40),
    latency=quarters,
    concurrent=st.integers(1, 3),
    policy=st.sampled_from(Policy),
)
@hypothesis_settings(max_examples=80)
def test_with_no_later_change_a_prediction_comes_true(
    history: list[Act], failing: list[str], latency: float, concurrent: int, policy: Policy
) -> None:
    """Submissions, cancels, moves, pauses, retries, failures and holds; then the finish of all."""
    fates = iter(failing)
    settings = Settings(
        settle=0.5, max_concurrent_batches=concurrent, policy=policy.value, aged_after=15.0
    )

    def reply(batch: Batch) -> list[Outcome]:
        fate = next(fates, "good")
        good = Outcome(succeeded=True)
        bad = Outcome(
            succeeded=False,
            error="no",
            transient=fate in ("later", "hold"),
            retry_after=7.0 if fate == "hold" else None,
        )
        return [bad if fate != "good" and not place else good for place in batch.offsets]

    with serving(settings, threaded=False) as api:
        api.upstream.latency = latency
        api.upstream.reply = reply
        known: list[str] = []
        for act in history:
            api.advance(act.after)
            perform(api, act, known)
        # From here on nothing fails any more, once what is under way has ended.
        fates = iter(())
        api.advance(latency)
        predicted = {
            each: found.finish_at
            for each in known
            if (found := api.parts.service.prospects(each)) is not None
        }
        positions = sorted(
            found.position
            for each in known
            if (found := api.parts.service.prospects(each)) and found.position is not None
        )
        assert positions == list(range(1, len(positions) + 1))
        api.advance(2_000)
        for each, finish_at in predicted.items():
            snapshot = api.parts.service.status(each, 0, 0)
            assert snapshot.finished_at is not None
            assert finish_at is not None
            assert abs((snapshot.finished_at - finish_at).total_seconds()) <= settings.interval
