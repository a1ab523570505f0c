"""Connectors that wait, on threads of their own, so that the worker's does not."""

import copy
import logging
from collections.abc import Sequence
from typing import Any

from ingest_service import logs
from ingest_service.clock import Clock
from ingest_service.domain.items import Kind
from ingest_service.domain.model import Batch, Outcome
from ingest_service.upstreams.pool import Pool
from ingest_service.upstreams.protocol import Call, Connector, FinishedCall, OnNews
from ingest_service.upstreams.shortage import shortage, unsent
from ingest_service.upstreams.threaded_call import ThreadedCall

#: Seconds after which a call that was given up counts as lost; most come back soon.
GRACE = 1.0


class ThreadedUpstream:
    """Runs a connector, once a batch or once an item, all items of a batch at the same time.

    `at_a_time` is how many calls of the connector may be under way. `timeout` is how
    long a batch may take in seconds, whatever the connector does: it is given up
    then, and its thread is lost until the connector returns. When too many are
    lost, nothing more is sent until some come back.
    """

    latency = None

    def __init__(
        self, clock: Clock, connector: Connector, *, timeout: float, at_a_time: int, by_item: bool
    ) -> None:
        self._clock = clock
        self._connector = connector
        # Whether it lets `sending` know when a request goes out.
        self._tells = bool(getattr(connector, "tells_when_sent", False))
        self._timeout = timeout
        self._by_item = by_item
        self._at_a_time = at_a_time
        # As many again may be lost before that matters.
        self._pool = Pool(2 * at_a_time)
        #: What the machine lacked at the last try, if it lacked anything.
        self._shortage: str | None = None

    def start(self, batch: Batch, on_news: OnNews) -> Call:
        """Begin to send the batch, or all its items."""
        parts = _one_by_one(batch) if self._by_item else [_copy(batch)]
        call = ThreadedCall(self._clock, batch, parts, self._timeout, on_news)
        # A batch can be larger than batches are now: cut before a restart with other settings.
        tasks = call.tasks(self._at_a_time, self._send, tells=self._tells)
        try:
            accepted = self._pool.submit(tasks, call.deadline)
        except RuntimeError as error:
            self._shortage = shortage(error)
            if self._shortage is None:
                raise
            return self._refused(batch, self._shortage)
        if accepted:
            return call
        logs.event("upstream_hangs", level=logging.ERROR, batch_id=batch.batch_id)
        return self._refused(batch, "Too many earlier calls of the upstream never returned.")

    def trouble(self) -> str | None:
        """Return what the machine lacks, or how many calls are lost."""
        if self._shortage is not None:
            return self._shortage
        lost = self._pool.overdue(self._clock.monotonic() - GRACE)
        if not lost:
            return None
        return (
            f"Calls of the upstream that were given up and have not returned: {lost}; "
            f"at {self._pool.size} nothing more is sent."
        )

    def _refused(self, batch: Batch, reason: str) -> Call:
        # Nothing was sent, so it is as good as unreachable, and no attempt is lost.
        return FinishedCall([unsent(reason)] * len(batch.items), self._clock.monotonic())

    def _send(self, batch: Batch) -> object:
        """Call the connector with a part, which is its own: it may change that as it likes."""
        size = len(batch.items)
        try:
            outcomes: object = self._connector(batch)
        except Exception as error:
            reason = shortage(error)
            if reason is None:
                raise
            outcomes = [unsent(reason)] * size
        self._shortage = _lacking(outcomes)
        return outcomes


def _one_by_one(batch: Batch) -> list[Batch]:
    """Return a batch for each item, which shares nothing with `batch` that can be changed."""
    return [
        _part(batch, [offset], [item])
        for offset, item in zip(batch.offsets, _own_items(batch), strict=True)
    ]


def _copy(batch: Batch) -> Batch:
    """Return the same batch, which shares nothing with `batch` that can be changed."""
    offsets = batch.offsets
    return _part(batch, offsets if isinstance(offsets, range) else list(offsets), _own_items(batch))


def _own_items(batch: Batch) -> list[Any]:
    items = list(batch.items)
    return copy.deepcopy(items) if batch.kind is Kind.MAPPINGS else items


def _part(batch: Batch, offsets: Sequence[int], items: Sequence[Any]) -> Batch:
    # Spelt out: `dataclasses.replace` takes longer than everything else about a part.
    return Batch(
        batch.ingestion_id,
        batch.sequence,
        batch.batch_id,
        batch.kind,
        batch.index,
        batch.start_no,
        batch.attempt,
        offsets,
        items,
    )


def _lacking(outcomes: object) -> str | None:
    """Return why something could not be sent, if that was so."""
    listed = outcomes if isinstance(outcomes, list | tuple) else ()
    reasons = (item.error for item in listed if isinstance(item, Outcome) and item.unsent)
    return next(reasons, None)
