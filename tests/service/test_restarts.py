"""Random histories with crashes, restarts and a wall clock that jumps."""

import tempfile
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from freezegun import freeze_time
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ingest_service.app import Parts, build
from ingest_service.domain.items import Ids
from ingest_service.domain.model import ItemState, Priority
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.settings import Settings
from tests.support import EPOCH, FrozenClock, RecordingUpstream, Stepper

SETTINGS = Settings(settle=0.5)
HOUR, DAY = 3_600, 86_400


class JumpingClock(FrozenClock):
    """Shows a wall time that was set wrong; the monotonic one is not touched by that."""

    off = timedelta()

    def monotonic(self) -> float:
        return super().now().timestamp()

    def now(self) -> datetime:
        return super().now() + self.off


class Service(RuleBasedStateMachine):
    """The service against what it promised to whoever asked."""

    @initialize()
    def begin(self) -> None:
        """Start with an empty journal."""
        self.folder = tempfile.TemporaryDirectory()
        self.freeze = freeze_time(EPOCH)
        self.frozen: Any = self.freeze.start()
        self.clock = JumpingClock()
        self.upstream = RecordingUpstream(self.clock)
        #: What was accepted: (priority, order of arrival, ids) by id.
        self.promised: dict[str, tuple[Priority, int, list[int]]] = {}
        self.restarts = 0
        self.checked = 0
        #: Items that the upstream has been sent, by ingestion.
        self.sent: dict[str, set[int]] = {}
        self.parts = self.boot()

    def boot(self) -> Parts:
        """Start a process on the journal."""
        journal = SqliteJournal(Path(self.folder.name) / "journal.sqlite3")
        parts = build(SETTINGS, clock=self.clock, journal=journal, upstream=self.upstream)
        self.time = Stepper(self.frozen, self.clock, parts.worker)
        return parts

    @rule(priority=st.sampled_from(Priority), size=st.integers(1, 7))
    def submit(self, priority: Priority, size: int) -> None:
        """Promise to send some ids."""
        number = len(self.promised)
        ids = [number * 100 + n for n in range(1, size + 1)]
        accepted = self.parts.service.submissions.accept(Ids(ids), priority)
        self.promised[accepted.ingestion_id] = (priority, number, ids)
        self.sent[accepted.ingestion_id] = set()

    @rule(quarters=st.integers(0, 60))
    def wait(self, quarters: int) -> None:
        """Let time pass, checking each start against what was waiting then."""
        self.time.advance(quarters / 4)
        self.check_order()

    @precondition(lambda self: self.restarts < 4)
    @rule(down=st.integers(0, 40))
    def crash(self, down: int) -> None:
        """End without a word, and come back `down` quarters of a second later."""
        self.restarts += 1
        self.parts.journal.close()
        self.frozen.tick(timedelta(seconds=down / 4))
        self.parts = self.boot()

    @rule(off=st.sampled_from([-DAY, -HOUR, 0, HOUR, DAY]))
    def set_wall_clock(self, off: int) -> None:
        """Somebody, or a time server, sets the clock."""
        self.clock.off = timedelta(seconds=off)

    def check_order(self) -> None:
        """At each start, nothing with a better place may have had items never sent."""
        for _, batch in self.upstream.starts[self.checked :]:
            priority, number, _ = self.promised[batch.ingestion_id]
            better = [
                each
                for each, (rank, order, ids) in self.promised.items()
                if (rank, order) < (priority, number) and self.sent[each] < set(ids)
            ]
            # What arrived after this start is judged too, so nothing may be
            # submitted between a start and this check; `wait` sees to that.
            assert better == []
            self.sent[batch.ingestion_id] |= set(batch.items)
        self.checked = len(self.upstream.starts)

    @invariant()
    def the_rate_is_never_exceeded(self) -> None:
        """As the upstream sees it, over all lives of the service."""
        instants = [at for at, _ in self.upstream.starts]
        assert all(b - a >= SETTINGS.interval - 1e-6 for a, b in pairwise(instants))

    @invariant()
    def every_promise_is_known(self) -> None:
        """With counts that add up."""
        for ingestion_id, (_, _, ids) in self.promised.items():
            counts = self.parts.service.queries.status(ingestion_id, 0, 10).counts
            assert counts.total == len(ids)
            assert counts.queued + counts.in_flight + counts.settled == counts.total

    def teardown(self) -> None:
        """In the end everything was sent, and nothing waited longer than it had to."""
        if not hasattr(self, "parts"):
            return
        batches = sum(-(-len(ids) // 3) for _, _, ids in self.promised.values())
        self.time.advance((batches + 1 + self.restarts) * SETTINGS.interval + 2)
        self.check_order()
        for ingestion_id, (_, _, ids) in self.promised.items():
            assert self.parts.service.queries.status(ingestion_id, 0, 10).finished_at is not None
            _, results = self.parts.service.queries.results(ingestion_id, list(ItemState), 0, 100)
            assert [result.key for result in results] == ids
            assert self.sent[ingestion_id] == set(ids)
        self.parts.journal.close()
        self.freeze.stop()
        self.folder.cleanup()


TestRestarts = Service.TestCase
TestRestarts.settings = hypothesis_settings(max_examples=60, stateful_step_count=20, deadline=None)
