"""Being seen, and forgetting what is too old: small steps, so that nobody notices."""

import math
import os
import socket
from collections.abc import Callable
from uuid import uuid4

from ingest_service.clock import Clock
from ingest_service.engines.options import KEY_LIFETIME, EngineOptions
from ingest_service.engines.postgres.database import Database, Transaction
from ingest_service.engines.postgres.rollups import forget, roll_up

#: Seconds between two signs of life.
BEAT = 5.0
#: Seconds between two steps of forgetting while there is more, and while there is not.
_BETWEEN_STEPS = 0.25
_BETWEEN_LOOKS = 60.0
#: Most rows of a kind that are forgotten in a step.
_MOST = 2_000


class Upkeep:
    """One a worker."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        options: EngineOptions,
        upstream_trouble: Callable[[], str | None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._options = options
        self._upstream_trouble = upstream_trouble
        self._id = uuid4()
        #: Which process this is, for people.
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        #: What keeps the worker from working, in words.
        self.trouble: str | None = None
        self._beat_at = -math.inf
        self._tidy_at = -math.inf

    def turn(self) -> float:
        """Do what is due; return when there is more to do."""
        now = self._clock.monotonic()
        if now >= self._beat_at:
            self.beat()
            self._beat_at = now + BEAT
        if now >= self._tidy_at:
            self._tidy_at = now + (_BETWEEN_STEPS if self.tidy() else _BETWEEN_LOOKS)
        return min(self._beat_at, self._tidy_at)

    def beat(self) -> None:
        """Give a sign of life."""
        with self._database.transaction() as tx:
            tx.run(
                "beat",
                worker=self._id,
                name=self.name,
                trouble=self.trouble,
                upstream=self._upstream_trouble(),
            )

    def leave(self) -> None:
        """Say that this worker is gone."""
        with self._database.transaction() as tx:
            tx.run("leave", worker=self._id)

    def tidy(self) -> bool:
        """Forget a little of what is too old; return whether there is more."""
        with self._database.transaction() as tx:
            tx.run("forget_keys", lifetime=KEY_LIFETIME)
            tx.run("forget_marks", retention=self._options.retention)
            tx.run("forget_workers")
            more = roll_up(tx)
            forget(tx, tx.row("time").at - self._options.retention)
            expired = tx.rows("expired", retention=self._options.retention)
            for row in expired:
                if not _forget(tx, row.sequence):
                    return True
        return more or bool(expired)


def _forget(tx: Transaction, sequence: int) -> bool:
    """Forget an ingestion, or the first part of it; return whether all is gone."""
    for kind in ("outcomes", "starts", "batches"):
        if tx.run(f"forget_{kind}", sequence=sequence, most=_MOST) == _MOST:
            return False
    tx.run("forget_ingestion", sequence=sequence)
    return True
