"""Random histories of a service that ends without a word and comes back, told as rules."""

from itertools import pairwise
from typing import Any

from freezegun import freeze_time
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ingest_service.app import Parts
from ingest_service.domain.items import Ids
from ingest_service.domain.model import ItemState, Priority
from ingest_service.settings import Settings
from tests.support import EPOCH, FrozenClock, RecordingUpstream, Timeline

SETTINGS = Settings(settle=0.5)


class Lives(RuleBasedStateMachine):
    """The service against what it promised to whoever asked.

    Who inherits says how it begins (`prepare`), starts (`boot`), and ends (`end`).
    """

    clock_type: type[FrozenClock] = FrozenClock
    #: Seconds that the upstream takes for a batch.
    latency = 1.0
    parts: Parts
    time: Timeline

    def prepare(self) -> None:
        """Make sure that nothing was ever submitted."""

    def boot(self) -> None:
        """Start on what is there."""
        raise NotImplementedError

    def end(self) -> None:
        """End without a word."""
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        """Start with nothing."""
        self.prepare()
        self.freeze = freeze_time(EPOCH)
        self.frozen: Any = self.freeze.start()
        self.clock = self.clock_type()
        self.upstream = RecordingUpstream(self.clock, self.latency)
        #: What was accepted: (priority, order of arrival, ids) by id.
        self.promised: dict[str, tuple[Priority, int, list[int]]] = {}
        self.restarts = 0
        self.checked = 0
        #: Items that the upstream has been sent, by ingestion.
        self.sent: dict[str, set[int]] = {}
        self.boot()

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
        self.time.advance((batches + 1 + self.restarts) * SETTINGS.interval + 1 + self.latency)
        self.check_order()
        for ingestion_id, (_, _, ids) in self.promised.items():
            assert self.parts.service.queries.status(ingestion_id, 0, 10).finished_at is not None
            _, results = self.parts.service.queries.results(ingestion_id, list(ItemState), 0, 100)
            assert [result.key for result in results] == ids
            assert self.sent[ingestion_id] == set(ids)
        self.end()
        self.freeze.stop()
