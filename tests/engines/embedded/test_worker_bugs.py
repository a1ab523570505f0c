"""The worker when something goes wrong, and when news comes while it looks elsewhere."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import pytest
from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory

from ingest_service.app import build, create_app
from ingest_service.domain.model import Batch, Outcome
from ingest_service.engines.embedded.journal import Settled, Started
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.errors import StorageUnavailable
from ingest_service.settings import Settings
from ingest_service.upstreams.protocol import Call, requests_to_wait
from tests.crash.faults import FaultyDisk, Operation
from tests.meanwhile import refuse_records
from tests.service.operating import FINE
from tests.support import EPOCH, Api, FrozenClock, Stepper, serving

BUG = ZeroDivisionError("a bug")

pytestmark = pytest.mark.embedded


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Give a function that returns the events since it was called last."""
    caplog.set_level(logging.WARNING, "ingest_service")

    def events() -> list[str]:
        names = [record.message for record in caplog.records]
        caplog.clear()
        return names

    return events


class TestABug:
    """Whatever is raised while a batch is settled or started."""

    def test_a_batch_that_cannot_be_settled_once_has_crashed(self, api: Api) -> None:
        """The next one is sent at the next slot, and nothing is sent twice."""
        heal = refuse_records(api.parts.journal, Settled, BUG)
        record = api.parts.journal.record

        def refuse_once(*changes: object) -> None:
            try:
                record(*changes)  # type: ignore[arg-type]
            except ZeroDivisionError:
                heal()
                raise

        api.parts.journal.record = refuse_once  # type: ignore[method-assign]
        first, second = api.ingest([1, 2]), api.ingest([3])
        api.advance(10)

        results = api.results(first)["results"]
        assert [each["error"] for each in results] == [
            "The upstream crashed: ZeroDivisionError."
        ] * 2
        assert api.status(second)["outcome"] == "succeeded"
        assert api.sent() == [(0.45, [1, 2]), (5.45, [3])]

    def test_one_that_lasts_is_tried_with_growing_pauses_and_told(
        self, api: Api, said: Callable[[], list[str]]
    ) -> None:
        """After a quarter of a second, half a second ... at most half a minute; then it heals."""
        tried: list[float] = []
        heal = refuse_records(api.parts.journal, Settled, BUG)
        record = api.parts.journal.record

        def trying(*changes: object) -> None:
            if any(isinstance(change, Settled) for change in changes):
                tried.append(api.parts.service.queries.health().at.timestamp() - api.began)
            record(*changes)  # type: ignore[arg-type]

        api.parts.journal.record = trying  # type: ignore[method-assign]
        ingestion_id = api.ingest([1])
        api.advance(60)
        turns = sorted({round(at - 1.45, 2) for at in tried})
        lines = said()
        heal()
        api.advance(60)

        assert turns == [0, 0.25, 0.75, 1.75, 3.75, 7.75, 15.75, 31.75]
        assert lines.count("worker_held") == 1
        assert len(lines) <= 2 + len(tried)
        assert api.status(ingestion_id)["outcome"] == "failed"
        assert len(api.sent()) == 1

    def test_the_readiness_says_what_it_is(self) -> None:
        """As long as it lasts."""
        with serving(Settings(), threaded=True) as api:
            heal = refuse_records(api.parts.journal, Settled, BUG)
            api.ingest([1])
            api.advance(3)
            ill = api.client.get("/health/ready")
            heal()
            api.advance(40)
            well = api.client.get("/health/ready")
        assert (ill.status_code, ill.get_json()["type"]) == (503, "/problems/not-ready")
        assert ill.get_json()["detail"] == "The worker cannot work: ZeroDivisionError: a bug"
        assert well.status_code == 200

    def test_a_batch_whose_start_cannot_be_recorded_is_not_lost(self, api: Api) -> None:
        """It is sent when the bug is gone, as the first."""
        heal = refuse_records(api.parts.journal, Started, BUG)
        ingestion_id = api.ingest([1, 2, 3, 4])
        api.advance(10)
        assert api.sent() == []
        heal()
        api.advance(100)

        assert [items for _, items in api.sent()] == [[1, 2, 3], [4]]
        assert api.status(ingestion_id)["outcome"] == "succeeded"


class TestABrokenDisk:
    """As long as nothing can be recorded."""

    def test_it_is_said_once_by_the_worker(self, api: Api, said: Callable[[], list[str]]) -> None:
        """However often it tries; and when it works again nothing was lost or sent twice."""
        heal = refuse_records(api.parts.journal, Settled, StorageUnavailable("The disk is full."))
        ingestion_id = api.ingest([1])
        api.advance(60)
        lines = said()
        heal()
        api.advance(1)

        assert lines == ["worker_held"]
        assert (api.status(ingestion_id)["outcome"], len(api.sent())) == ("succeeded", 1)

    def test_ten_seconds_of_it_are_a_handful_of_lines(
        self, tmp_path: Path, said: Callable[[], list[str]]
    ) -> None:
        """Said at once, after 1, 2 and 4 seconds, and when it is over."""
        disk = FaultyDisk()
        with freeze_time(EPOCH) as frozen:
            assert isinstance(frozen, FrozenDateTimeFactory)
            clock, settings = FrozenClock(), Settings()
            journal = SqliteJournal(tmp_path / "journal", clock, vfs=disk.name)
            parts = build(settings, clock=clock, journal=journal)
            client = create_app(settings, parts).test_client()
            time = Stepper(frozen, clock, parts.worker)
            client.post("/ingest", json={"ids": [1], "priority": "LOW"})
            disk.break_down(Operation.SYNC, 1, apsw.FullError, lasting=True)
            time.advance(10.4)
            broken = said()
            disk.repair()
            time.advance(30)
            unfinished = client.get("/health").get_json()["active_requests"]
            journal.close()
        disk.unregister()
        assert sorted(broken) == ["storage_failed"] * 4 + ["worker_held"]
        assert unfinished == 0


@dataclass
class Asking:
    """A call that is answered while nobody looks, and asks to be left alone."""

    clock: FrozenClock
    #: When the first answer comes, when all have ended, and for how long to wait after it.
    answers_at: float
    ends: float
    seconds: float
    announced: bool = False
    #: Whether the answer comes only when somebody asks whether the call has ended.
    unseen: bool = False
    _answered: bool = False

    def ends_at(self) -> float:
        if self.clock.monotonic() >= self.answers_at:
            self._answered = True
        return self.ends if not self.unseen else -math.inf if self._answered else math.inf

    def ended_at(self) -> float:
        return self.answers_at

    def connecting(self) -> bool:
        return False

    def sent_at(self) -> float:
        return self.answers_at if self._came() else -math.inf

    def retry_after(self) -> Sequence[tuple[float, float]]:
        asks = [Outcome(False, transient=True, retry_after=self.seconds)]
        return requests_to_wait(asks, self.answers_at) if self._came() else []

    def outcomes(self) -> Sequence[Outcome]:
        return [FINE] * 3

    def _came(self) -> bool:
        return self._answered if self.unseen else self.clock.monotonic() >= self.answers_at


@dataclass
class AskingUpstream:
    """Has the first call ask to be left alone; all others have ended at once."""

    clock: FrozenClock
    first: Asking
    latency: float | None = None
    starts: list[float] = field(default_factory=list)

    def trouble(self) -> str | None:
        return None

    def start(self, batch: Batch, on_end: Callable[[], None]) -> Call:
        now = self.clock.monotonic()
        self.starts.append(now)
        if len(self.starts) == 1:
            return self.first
        return Asking(self.clock, math.inf, now, 0.0)


class TestAsked:
    """When the upstream asks to be left alone."""

    @pytest.fixture
    def frozen(self) -> Iterator[FrozenDateTimeFactory]:
        with freeze_time(EPOCH) as frozen:
            assert isinstance(frozen, FrozenDateTimeFactory)
            yield frozen

    def starts(self, frozen: FrozenDateTimeFactory, first: Asking) -> list[float]:
        """Return when batches are started, two at a time, in seconds since the first."""
        upstream = AskingUpstream(first.clock, first)
        settings = Settings(settle=0, max_concurrent_batches=2)
        parts = build(settings, clock=first.clock, upstream=upstream)
        client = create_app(settings, parts).test_client()
        began = first.clock.monotonic()
        first.answers_at += began
        first.ends += began
        client.post("/ingest", json={"ids": list(range(1, 10)), "priority": "LOW"})
        Stepper(frozen, first.clock, parts.worker).advance(200)
        return [round(at - began, 3) for at in upstream.starts]

    def test_that_is_obeyed_while_batch_mates_are_under_way(
        self, frozen: FrozenDateTimeFactory
    ) -> None:
        """The next batch would start before the first has ended."""
        first = Asking(FrozenClock(), answers_at=1, ends=90, seconds=60)
        assert self.starts(frozen, first) == [0, 61, 66]

    def test_that_is_obeyed_also_when_the_answer_comes_just_as_the_end_is_looked_for(
        self, frozen: FrozenDateTimeFactory
    ) -> None:
        """It counts from when it came; so does the pace from the last request."""
        first = Asking(FrozenClock(), answers_at=3, ends=3, seconds=60, unseen=True)
        assert self.starts(frozen, first) == [0, 63, 68]

    def test_the_pace_counts_from_a_request_that_was_seen_only_at_the_end(
        self, frozen: FrozenDateTimeFactory
    ) -> None:
        """Though nobody knew of it before."""
        first = Asking(FrozenClock(), answers_at=3, ends=3, seconds=0, unseen=True)
        assert self.starts(frozen, first) == [0, 8, 13]
