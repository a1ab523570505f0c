"""Taking work, and telling beforehand what would become of it."""

import hashlib
from collections.abc import Mapping

from ingest_service.domain.caller import ANYBODY, Caller
from ingest_service.domain.items import Items, Kind
from ingest_service.domain.model import Priority
from ingest_service.engines import Accepted, Draft, IdempotencyKey, Intake, Reading
from ingest_service.service.deferral import settled_later
from ingest_service.service.queries import Queries
from ingest_service.service.reports import Plan


class Submissions:
    """Accepts requests; what was answered is durable."""

    def __init__(
        self, intake: Intake, reading: Reading, queries: Queries, batch_sizes: Mapping[Kind, int]
    ) -> None:
        self._intake = intake
        self._reading = reading
        self._queries = queries
        self._batch_sizes = batch_sizes

    def accept(
        self, items: Items, priority: Priority, key: str | None = None, caller: Caller = ANYBODY
    ) -> Accepted:
        """Take responsibility for `items`.

        Raise `QueueFull`, `QuotaFull`, `StorageUnavailable`, `Stopping`, or
        `IdempotencyMismatch` if `key` stands for something else.
        """
        draft = self._draft(items, priority, caller)
        claim = None if key is None else _idempotency_key(key, draft)
        acceptance = self._intake.accept(draft, claim)
        if key is None and settled_later(acceptance.durable):
            return Accepted(acceptance.ingestion_id, replayed=False)
        return acceptance.result()

    def plan(self, items: Items, priority: Priority, caller: Caller = ANYBODY) -> Plan:
        """Return what would become of a request if it were accepted now; store nothing.

        Raise as `accept` does.
        """
        draft = self._draft(items, priority, caller)
        self._intake.look(draft)
        eta = self._queries.eta(self._reading.snapshot(draft))
        return Plan(draft.batches_total, draft.batch_size, eta)

    def _draft(self, items: Items, priority: Priority, caller: Caller) -> Draft:
        return Draft(items, priority, self._batch_sizes[items.kind], caller)


def _idempotency_key(key: str, draft: Draft) -> IdempotencyKey:
    content = f"{draft.items.kind} {draft.priority.name} ".encode() + draft.items.canonical()
    return IdempotencyKey(key, hashlib.sha256(content).digest(), draft.caller.key)
