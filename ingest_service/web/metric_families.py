"""The families of what is measured, each with where its numbers come from.

What each of them means is in docs/metrics.md.
"""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from ingest_service.domain import rollup
from ingest_service.domain.model import Priority
from ingest_service.domain.rollup import Counts, Histogram
from ingest_service.service.reports import Measurements
from ingest_service.version import VERSION

#: Samples of a family: (values of its labels, number).
Samples = Iterator[tuple[Sequence[str], float]]


class Family(NamedTuple):
    """Gauges, or counters, of one name."""

    kind: type[GaugeMetricFamily] | type[CounterMetricFamily]
    name: str
    about: str
    labels: Sequence[str]
    samples: Callable[[Measurements], Samples]

    def told(self, measured: Measurements) -> Metric:
        """Return the family with its samples."""
        family = self.kind(self.name, self.about, labels=self.labels)
        for labels, value in self.samples(measured):
            family.add_metric(labels, value)
        return family


class Spread(NamedTuple):
    """A histogram that is added up in counters."""

    name: str
    about: str
    label: str | None
    histograms: Mapping[str, Histogram]
    counts: Callable[[Measurements], Counts]

    def told(self, measured: Measurements) -> Metric:
        """Return the family with its samples."""
        labels = () if self.label is None else (self.label,)
        family = HistogramMetricFamily(self.name, self.about, labels=labels)
        counts = self.counts(measured)
        for name, histogram in self.histograms.items():
            buckets = cumulative(histogram.bounds, histogram.buckets(counts))
            family.add_metric((name,) if labels else (), buckets, histogram.seconds(counts))
        return family


def cumulative(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Return buckets as they are exposed: each with all that is below it."""
    names = [*(f"{bound:.9g}" for bound in bounds), "+Inf"]
    return list(zip(names, accumulate(counts), strict=True))


def _one(value: Callable[[Measurements], float]) -> Callable[[Measurements], Samples]:
    return lambda measured: iter([((), value(measured))])


def _waiting(part: str) -> Callable[[Measurements], Samples]:
    return lambda measured: (
        ((priority.name,), getattr(totals, part))
        for priority, totals in measured.queue.totals.items()
    )


def _ages(measured: Measurements) -> Samples:
    for priority, totals in measured.queue.totals.items():
        age = measured.queue.at - totals.oldest_at if totals.oldest_at else None
        yield (priority.name,), age.total_seconds() if age else 0.0


def _held_until(measured: Measurements) -> float:
    """Return until when the upstream is left alone, as seconds since 1970; 0 if it is not."""
    queue = measured.queue
    ahead = queue.pace.closed_until - queue.now
    return queue.at.timestamp() + ahead if ahead > 0 else 0.0


def _since_step(measured: Measurements) -> float:
    at = measured.queue.worker.stepped_at
    return 0.0 if at is None else max(0.0, measured.queue.now - at)


def _amounts(event: str, at: int) -> Callable[[Measurements], Samples]:
    """Tell the batches (0) or the items (1) of an event."""
    return lambda measured: (
        ((priority.name,), measured.totals.get(rollup.both(event, priority)[at], 0))
        for priority in Priority
    )


def _settled(
    name: Callable[[Priority, str], str], outcomes: Sequence[str]
) -> Callable[[Measurements], Samples]:
    return lambda measured: (
        ((priority.name, outcome), measured.totals.get(name(priority, outcome), 0))
        for priority in Priority
        for outcome in outcomes
    )


def _kinds(event: str) -> Callable[[Measurements], Samples]:
    return lambda measured: (
        ((kind,), measured.totals.get(f"{event}.{kind}", 0)) for kind in rollup.ERRORS
    )


def _slots(measured: Measurements) -> Samples:
    totals, vitals = measured.totals, measured.vitals
    used = sum(totals.get(rollup.both("started", priority)[0], 0) for priority in Priority)
    yield ("used",), used
    if vitals.slots_idle is not None:
        yield ("idle",), vitals.slots_idle
    if vitals.slots_held is not None:
        yield ("held",), vitals.slots_held


def _totals(measured: Measurements) -> Counts:
    return measured.totals


def _of_storage(measured: Measurements) -> Counts:
    return measured.vitals.storage.counts


_GAUGE, _COUNTER = GaugeMetricFamily, CounterMetricFamily
_CLASS = ("priority",)
_BY_CLASS = {priority.name: histogram for priority, histogram in rollup.WAIT.items()}
_GAUGES: Sequence[Family] = (
    Family(_GAUGE, "ingest_queued_batches", "Batches that wait.", _CLASS, _waiting("batches")),
    Family(_GAUGE, "ingest_queued_items", "Items that wait.", _CLASS, _waiting("items")),
    Family(
        _GAUGE, "ingest_queued_ingestions", "Ingestions that wait.", _CLASS, _waiting("ingestions")
    ),
    Family(
        _GAUGE, "ingest_oldest_queued_age_seconds", "Age of the oldest that waits.", _CLASS, _ages
    ),
    Family(
        _GAUGE,
        "ingest_unfinished_ingestions",
        "Ingestions that are not finished.",
        (),
        _one(lambda measured: measured.queue.unfinished),
    ),
    Family(
        _GAUGE,
        "ingest_in_flight_batches",
        "Batches under way.",
        (),
        _one(lambda measured: len(measured.queue.in_flight)),
    ),
    Family(
        _GAUGE,
        "ingest_interval_seconds",
        "From one start to the next; 0 is no limit.",
        (),
        _one(lambda measured: measured.queue.pace.interval),
    ),
    Family(
        _GAUGE,
        "ingest_held_until_timestamp_seconds",
        "Until when the upstream is left alone; 0 if it is not.",
        (),
        _one(_held_until),
    ),
    Family(
        _GAUGE,
        "ingest_paused",
        "1 while an operator has paused it.",
        (),
        _one(lambda measured: measured.queue.pace.paused is not None),
    ),
    Family(
        _GAUGE,
        "ingest_journal_file_bytes",
        "Size of the files of the journal.",
        ("file",),
        lambda measured: (
            ((what,), size) for what, size in measured.vitals.storage.file_bytes.items()
        ),
    ),
    Family(
        _GAUGE,
        "ingest_waiting_long_polls",
        "Requests that wait for a change.",
        (),
        _one(lambda measured: measured.vitals.watches),
    ),
    Family(
        _GAUGE,
        "ingest_worker_alive",
        "1 while the worker runs.",
        (),
        _one(lambda measured: measured.queue.worker.alive),
    ),
    Family(
        _GAUGE,
        "ingest_worker_trouble",
        "1 while something keeps the worker, or its calls, from working.",
        (),
        _one(
            lambda measured: bool(
                measured.queue.worker.trouble or measured.queue.worker.upstream_trouble
            )
        ),
    ),
    Family(
        _GAUGE,
        "ingest_worker_last_step_age_seconds",
        "Since the worker has looked at the queue.",
        (),
        _one(_since_step),
    ),
    Family(
        _GAUGE,
        "ingest_build_info",
        "Always 1.",
        ("version", "python"),
        lambda _: iter([((VERSION, platform.python_version()), 1)]),
    ),
)
_COUNTERS: Sequence[Family] = (
    Family(
        _COUNTER, "ingest_accepted_batches", "Batches accepted.", _CLASS, _amounts("accepted", 0)
    ),
    Family(_COUNTER, "ingest_accepted_items", "Items accepted.", _CLASS, _amounts("accepted", 1)),
    Family(
        _COUNTER, "ingest_started_batches", "Starts of batches.", _CLASS, _amounts("started", 0)
    ),
    Family(
        _COUNTER, "ingest_started_items", "Items of these starts.", _CLASS, _amounts("started", 1)
    ),
    Family(
        _COUNTER,
        "ingest_settled_batches",
        "Starts of batches that ended, and batches given up.",
        ("priority", "outcome"),
        _settled(rollup.settled_batches, rollup.BATCH_OUTCOMES),
    ),
    Family(
        _COUNTER,
        "ingest_settled_items",
        "Items that have their outcome.",
        ("priority", "outcome"),
        _settled(rollup.settled_items, rollup.ITEM_OUTCOMES),
    ),
    Family(
        _COUNTER,
        "ingest_requeued_items",
        "Failed items that somebody had queued once more.",
        _CLASS,
        _amounts("requeued", 1),
    ),
    Family(
        _COUNTER,
        "ingest_upstream_errors",
        "Attempts at items that failed.",
        ("kind",),
        _kinds("error"),
    ),
    Family(_COUNTER, "ingest_retried_items", "Items sent again.", ("reason",), _kinds("retry")),
    Family(_COUNTER, "ingest_slots", "Slots, and those that did not open.", ("use",), _slots),
)
_SPREADS: Sequence[Spread] = (
    Spread(
        "ingest_start_gap_seconds",
        "From one start to the next.",
        None,
        {"": rollup.GAP},
        _totals,
    ),
    Spread(
        "ingest_wait_seconds",
        "From acceptance to the first start of a batch.",
        "priority",
        _BY_CLASS,
        _totals,
    ),
    Spread(
        "ingest_upstream_batch_seconds",
        "From the first request of a batch to its last answer.",
        None,
        {"": rollup.UPSTREAM},
        _totals,
    ),
    Spread(
        "ingest_finish_error_seconds",
        "By how much ingestions ended later or earlier than was foretold.",
        "direction",
        {"late": rollup.LATE, "early": rollup.EARLY},
        _totals,
    ),
    Spread(
        "ingest_journal_commit_seconds",
        "How long commits took.",
        None,
        {"": rollup.COMMIT},
        _of_storage,
    ),
    Spread(
        "ingest_journal_commit_records",
        "How many changes shared a commit.",
        None,
        {"": rollup.GROUP},
        _of_storage,
    ),
)
#: Everything that the service measures.
FAMILIES: Sequence[Family | Spread] = (*_GAUGES, *_COUNTERS, *_SPREADS)
