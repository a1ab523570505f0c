"""What happens, as counters by name: added up a minute, then over minutes.

A histogram is counters too, one a bucket, so everything is put together by adding; a quantile
is told as the upper bound of the bucket that it is in.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, repeat

from ingest_service.domain.model import Outcome, OutcomeWord, Priority

#: Counters by name; what is not in there is 0.
Counts = Mapping[str, int]

#: In seconds; finer where more happens.
SHORT = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0),
    *(60.0, 120.0, 300.0, 600.0),
)
LONG = (
    *(0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0),
    *(hours * 3_600.0 for hours in (1, 2, 4, 8, 12, 24, 48, 96, 168, 336, 720)),
)
_MICROSECONDS = 1_000_000


class Histogram:
    """How durations are spread: the names of the counters, and what they say."""

    def __init__(self, name: str, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self._names = [f"{name}.{bound:.9g}" for bound in bounds] + [f"{name}.more"]
        self._sum = f"{name}.sum"

    def count(self, counts: dict[str, int], seconds: float) -> None:
        """Count one duration among `counts`."""
        name = self._names[bisect_left(self.bounds, seconds)]
        counts[name] = counts.get(name, 0) + 1
        more = round(seconds * _MICROSECONDS)
        counts[self._sum] = counts.get(self._sum, 0) + more

    def of(self, seconds: float) -> dict[str, int]:
        """Return what counts one duration."""
        counts: dict[str, int] = {}
        self.count(counts, seconds)
        return counts

    def buckets(self, counts: Counts) -> list[int]:
        """Return how many durations are in each bucket, and in the last one those beyond."""
        return list(map(counts.get, self._names, repeat(0)))

    def seconds(self, counts: Counts) -> float:
        """Return the sum of all durations."""
        return counts.get(self._sum, 0) / _MICROSECONDS

    def quantiles(self, counts: Counts, shares: Iterable[float]) -> list[float | None] | None:
        """Return for each share, of more than 0, a bound that so many durations do not exceed.

        None for all if there are no durations, and for a share if the bound is beyond all.
        """
        upto = list(accumulate(self.buckets(counts)))
        if not upto[-1]:
            return None
        bounds = *self.bounds, None
        return [bounds[bisect_left(upto, share * upto[-1])] for share in shares]


#: From acceptance to the first start of a batch.
WAIT = {priority: Histogram(f"wait.{priority.name}", LONG) for priority in Priority}
#: From one start to the next.
GAP = Histogram("gap", SHORT)
#: From when a batch was on the wire to its last answer.
UPSTREAM = Histogram("upstream", SHORT)
#: By how much ingestions ended later, or earlier, than was said when they were accepted.
LATE, EARLY = Histogram("late", LONG), Histogram("early", LONG)

#: How long a commit takes, and how many changes share one.
COMMIT = Histogram(
    "commit", (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0, 10.0)
)
GROUP = Histogram("group", (1, 2, 4, 8, 16, 32, 64, 128))

_SUCCEEDED = OutcomeWord.SUCCEEDED.value
#: What becomes of a start: besides the words for an end, that some of it is sent again.
RETRIED = "retried"
BATCH_OUTCOMES = (*map(str, OutcomeWord), RETRIED)
ITEM_OUTCOMES = (OutcomeWord.SUCCEEDED.value, OutcomeWord.FAILED.value, OutcomeWord.CANCELLED.value)
#: Why an attempt at an item failed.
ERRORS = ("unreachable", "unsent", "rate_limited", "client_error", "server_error", "other")
#: How counters begin that the steps of a history tell. The others are only told in all. Both
#: engines keep sums of these: another one needs a migration of each.
_TOLD_IN_STEPS = ("accepted.", "started.", "settled.", "wait.", "upstream.")


def add(into: dict[str, int], more: Counts) -> None:
    """Add `more` to the counters `into`."""
    if not into:
        # So it begins, and this is ten times as fast.
        into.update(more)
        return
    for name, count in more.items():
        into[name] = into.get(name, 0) + count


def without(counts: Counts, some: Counts) -> dict[str, int]:
    """Return `counts` before `some` of them were added."""
    return {name: more for name, count in counts.items() if (more := count - some.get(name, 0))}


def told_in_steps(counts: Counts) -> dict[str, int]:
    """Return those that the steps of a history tell; of the rest they may know nothing."""
    return {name: count for name, count in counts.items() if name.startswith(_TOLD_IN_STEPS)}


def both(event: str, priority: Priority) -> tuple[str, str]:
    """Return the counters of the batches and of the items of an event in a class."""
    return _BOTH[event, priority]


_BOTH = {
    (event, priority): (f"{event}.{priority.name}.batches", f"{event}.{priority.name}.items")
    for event in ("accepted", "started", "requeued", "depth")
    for priority in Priority
}


_SETTLED = {
    (what, priority, outcome): f"settled.{priority.name}.{what}.{outcome}"
    for what, outcomes in (("batches", BATCH_OUTCOMES), ("items", ITEM_OUTCOMES))
    for priority in Priority
    for outcome in outcomes
}


def settled_batches(priority: Priority, outcome: str) -> str:
    """Return the counter of the starts in a class that ended like this."""
    return _SETTLED["batches", priority, outcome]


def settled_items(priority: Priority, outcome: str) -> str:
    """Return the counter of the items in a class that ended like this."""
    return _SETTLED["items", priority, outcome]


def accepted(priority: Priority, batches: int, items: int) -> dict[str, int]:
    """Return what counts an acceptance."""
    of_batches, of_items = both("accepted", priority)
    return {of_batches: batches, of_items: items}


def started(
    priority: Priority, items: int, gap: float | None, waited: float | None
) -> dict[str, int]:
    """Return what counts a start; `waited` is None unless it is the first one of its batch."""
    of_batches, of_items = both("started", priority)
    counts = {of_batches: 1, of_items: items}
    if gap is not None:
        GAP.count(counts, gap)
    if waited is not None:
        WAIT[priority].count(counts, max(0.0, waited))
    return counts


def settled(
    priority: Priority, outcomes: Sequence[Outcome], *, cancelled: bool = False
) -> dict[str, int]:
    """Return what counts the end of a start.

    Of a cancelled ingestion nothing is sent again.
    """
    if all(outcome.succeeded for outcome in outcomes):
        # Nearly always, and this happens for every batch.
        return {
            settled_items(priority, _SUCCEEDED): len(outcomes),
            settled_batches(priority, _SUCCEEDED): 1,
        }
    counts: dict[str, int] = {}
    words = [_word(outcome, cancelled=cancelled) for outcome in outcomes]
    for word in dict.fromkeys(words):
        if word != RETRIED:
            counts[settled_items(priority, word)] = words.count(word)
    counts[settled_batches(priority, _of_all(words))] = 1
    for outcome in outcomes:
        if not outcome.succeeded:
            kind = error_kind(outcome)
            sent_again = outcome.transient and not cancelled
            add(counts, {f"error.{kind}": 1} | ({f"retry.{kind}": 1} if sent_again else {}))
    return counts


def cancelled(priority: Priority, batches: int, items: int) -> dict[str, int]:
    """Return what counts that so much was given up."""
    word = OutcomeWord.CANCELLED.value
    return {settled_batches(priority, word): batches, settled_items(priority, word): items}


def requeued(priority: Priority, batches: int, items: int) -> dict[str, int]:
    """Return what counts that so much that had failed was queued once more."""
    of_batches, of_items = both("requeued", priority)
    return {of_batches: batches, of_items: items}


def estimate_error(late: float) -> dict[str, int]:
    """Return what counts an end that was so many seconds later than expected, or earlier."""
    return LATE.of(late) if late > 0 else EARLY.of(-late)


def error_kind(outcome: Outcome) -> str:
    """Return why an attempt failed, in one of a few words."""
    status = outcome.status_code
    if outcome.unsent:
        return "unsent"
    if outcome.unreachable:
        return "unreachable"
    if status == 429:
        return "rate_limited"
    if status is not None and 400 <= status < 600:
        return "client_error" if status < 500 else "server_error"
    return "other"


def _word(outcome: Outcome, *, cancelled: bool) -> str:
    if outcome.succeeded:
        return OutcomeWord.SUCCEEDED.value
    if outcome.transient:
        return OutcomeWord.CANCELLED.value if cancelled else RETRIED
    return OutcomeWord.FAILED.value


def _of_all(words: Sequence[str]) -> str:
    """Return the word for a batch whose items ended like `words`."""
    different = set(words)
    for word in (RETRIED, OutcomeWord.CANCELLED.value):
        if word in different:
            return word
    return different.pop() if len(different) == 1 else OutcomeWord.PARTIALLY_FAILED.value
