"""What somebody, or something, has done to the queue."""

from typing import Any

from psycopg.types.json import Jsonb

from ingest_service.domain.caller import ANYBODY, Caller
from ingest_service.engines.audit import MarkKind
from ingest_service.engines.postgres.database import Transaction


def add_mark(
    tx: Transaction,
    kind: MarkKind,
    before: Any,
    after: Any,
    caller: Caller = ANYBODY,
    target: str | None = None,
) -> None:
    """Remember what the caller does; `before` and `after` are anything that JSON can say."""
    tx.run(
        "add_mark",
        kind=kind.value,
        before=Jsonb(before),
        after=Jsonb(after),
        key=caller.key,
        target=target,
        request_id=caller.request_id,
    )
