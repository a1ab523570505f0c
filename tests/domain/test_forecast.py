"""Predictions against going through the slots one by one, for random queues and every policy."""

import itertools
import math
import random
from bisect import insort
from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingest_service.domain.forecast import forecast
from ingest_service.domain.model import Priority
from ingest_service.domain.policy import CYCLE, Policy, QueueEntry, Rule, choose
from ingest_service.domain.runs import Moment, last_starts
from ingest_service.domain.slot_times import SlotModel, SlotTimes
from ingest_service.domain.snapshot import PendingRetry
from tests.domain.queues import Queue, Sums, entry, models, queues


@given(queue=queues())
@hypothesis_settings(max_examples=400)
def test_a_prediction_is_what_going_through_the_slots_gives(queue: Queue) -> None:
    """For every ingestion of any queue: place, batches ahead, next start, finish."""
    slots = queue.slots()
    order = [each.sequence for _, each in slots]
    ends = last_starts(queue.moment, queue.lines, queue.retries)
    for each in queue.entries:
        if each.sequence not in order:
            assert queue.forecast(each) is None
            continue
        first = order.index(each.sequence)
        last = len(order) - 1 - order[::-1].index(each.sequence)
        prediction = queue.forecast(each)

        assert prediction is not None
        assert prediction.batches_ahead == first
        assert prediction.position == len(set(order[:first])) + 1
        assert prediction.next_start_at == slots[first][0]
        assert prediction.finish_at == slots[last][0] + queue.moment.model.duration
        assert prediction.finish_at <= (prediction.latest_finish_at or math.inf)
        assert ends[each.sequence] == slots[last][0]


@given(queue=queues(st.sampled_from([Rule(), Rule(Policy.WEIGHTED)])), batches=st.integers(1, 40))
def test_a_newcomer_is_told_what_it_is_told_once_it_is_accepted(queue: Queue, batches: int) -> None:
    """In each class, behind everything that is there."""
    for priority in Priority:
        newcomer = entry(1_000, priority, batches)
        accepted = replace(queue, entries=[*queue.entries, newcomer])
        asked = newcomer._replace(batches=0)
        told = forecast(queue.moment, Sums(queue.lines), queue.retries, asked, batches)

        assert told == accepted.forecast(newcomer)
        assert told is not None


@given(queue=queues())
def test_every_batch_gets_one_slot_and_slots_keep_the_interval(queue: Queue) -> None:
    """Under every policy, with any number of batches under way."""
    slots, model = queue.slots(), queue.moment.model
    at = [instant for instant, _ in slots]
    batches = sum(each.batches for each in queue.entries) + len(queue.retries)

    assert len(slots) == batches
    assert all(b - a >= model.interval for a, b in itertools.pairwise(at))
    for number, instant in enumerate(at):
        under_way = [end for end in model.ends if max(end, queue.moment.now) > instant]
        under_way += [a for a in at[:number] if a + model.duration > instant]
        assert len(under_way) < max(model.concurrent, len(model.ends) + 1)


@given(queue=queues())
def test_every_slot_serves_what_the_policy_chooses_at_that_moment(queue: Queue) -> None:
    """Runs of slots are a short cut; asked slot by slot the answer is the same."""
    waiting = [list(line) for line in queue.lines]
    joins = sorted(queue.retries)
    moment = queue.moment
    for number, (at, served) in enumerate(queue.slots()):
        while joins and joins[0].due <= at:
            line = waiting[joins[0].entry.priority - 1]
            line.append(joins.pop(0).entry)
            line.sort(key=lambda each: each.sequence)
        heads = [line[0] for line in waiting if line]
        chosen = heads[choose(heads, moment.rule, moment.slot + number, at)]

        assert served.sequence == chosen.sequence
        line = waiting[chosen.priority - 1]
        head = line.pop(0)
        if head.batches > 1:
            line.insert(0, head._replace(batches=head.batches - 1))


@given(model=models, number=st.integers(0, 200))
def test_a_far_slot_is_where_counting_up_to_it_leads(model: SlotModel, number: int) -> None:
    """The pattern that repeats itself is the right one."""
    model = model._replace(ends=())
    times, far = SlotTimes(model, 0.0), SlotTimes(model, 0.0)
    one_by_one = [SlotTimes(model, 0.0).at(each) for each in range(number + 1)]

    assert far.at(number) == one_by_one[-1]
    for each, at in enumerate(one_by_one):
        assert times.count_before(at, 0, number + 1) == sum(
            earlier < at for earlier in one_by_one
        ), each


def by_sequence(waiting: QueueEntry) -> int:
    """Return what a class is in the order of."""
    return waiting.sequence


@given(queue=queues(st.just(Rule(Policy.WEIGHTED))), seed=st.integers(0, 2**32))
@hypothesis_settings(max_examples=25)
def test_no_adversary_breaks_the_latest_finish_of_a_weighted_queue(queue: Queue, seed: int) -> None:
    """Whatever arrives later, and however much of it, before every single slot."""
    moment, joins = queue.moment, sorted(queue.retries)
    chance = random.Random(seed)  # noqa: S311
    sequence = itertools.count(1_000)
    times = SlotTimes(moment.model, moment.now)
    bounds = {
        each.sequence: prediction.latest_finish_at
        for line in queue.lines
        for each in line
        if (prediction := queue.forecast(each)) is not None
    }
    waiting = [list(line) for line in queue.lines]
    left = Counter({each.sequence: each.batches for each in queue.entries})
    left.update(retry.entry.sequence for retry in joins)
    ended = {}
    for number in range(1_500):
        for priority in Priority:
            if chance.random() < 0.5:
                waiting[priority - 1].append(entry(next(sequence), priority, 9))
        if not any(waiting):
            if not joins:
                break
            times.delay(number, joins[0].due)
        at = times.at(number)
        while joins and joins[0].due <= at:
            insort(waiting[joins[0].entry.priority - 1], joins.pop(0).entry, key=by_sequence)
        heads = [line[0] for line in waiting if line]
        served = heads[choose(heads, moment.rule, moment.slot + number, at)]
        line = waiting[served.priority - 1]
        line.pop(0)
        if served.batches > 1:
            line.insert(0, served._replace(batches=served.batches - 1))
        left[served.sequence] -= 1
        if not left[served.sequence]:
            ended[served.sequence] = at + moment.model.duration

    for number, bound in bounds.items():
        assert bound is not None
        assert number not in ended or ended[number] <= bound
        assert number in ended or bound > times.at(1_499)


def test_the_latest_finish_is_not_before_an_attempt_that_is_known() -> None:
    moment = Moment(0.0, Rule(Policy.WEIGHTED), SlotModel(0.0, 5.0, 1.0, 1), 0)
    waiting = entry(1, Priority.HIGH, 1)
    told = Queue(moment, [waiting], [PendingRetry(42.0, waiting)]).forecast(waiting)

    assert told is not None
    # Due in slot 9, behind at most one batch; slots 9 and 10 are turns of HIGH.
    assert (told.finish_at, told.latest_finish_at) == (43.0, 51.0)


def test_a_million_batches_under_the_weighted_policy_are_arithmetic() -> None:
    """Whole cycles are skipped, so what is far away is predicted as well as what is near."""
    heads = [entry(n, priority, 1_000_000) for n, priority in enumerate(Priority)]
    moment = Moment(0.0, Rule(Policy.WEIGHTED), SlotModel(0.0, 5.0, 1.0, 1), 0)
    queue = Queue(moment, heads, ())
    low = queue.forecast(heads[2])

    assert low is not None
    # All three million slots are needed for it, so the last one is its last.
    assert low.finish_at == 2_999_999 * 5.0 + 1.0
    assert low.batches_ahead == 5


def test_under_the_aged_policy_predictions_go_beyond_twenty_thousand_slots() -> None:
    moment = Moment(0.0, Rule(Policy.AGED, 600.0), SlotModel(0.0, 5.0, 1.0, 1), 0)
    queue = Queue(moment, [entry(1, Priority.HIGH, 50_000), entry(2, Priority.HIGH, 1)], ())
    last = queue.forecast(queue.entries[1])

    assert last is not None
    assert last.batches_ahead == 50_000


def test_under_the_weighted_policy_low_is_served_once_in_twelve_slots() -> None:
    """Over ten thousand slots in which all classes always wait; HIGH gets eight, MEDIUM three."""
    heads = [entry(each, each, 1) for each in Priority]
    rule = Rule(Policy.WEIGHTED)
    served = [int(heads[choose(heads, rule, slot, 0.0)].priority) for slot in range(10_008)]

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
