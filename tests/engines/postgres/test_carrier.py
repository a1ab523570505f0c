"""Carrying a batch while the database comes and goes."""

import threading
from collections.abc import Callable

import pytest

from ingest_service.domain.model import Batch, Outcome
from ingest_service.engines import Slot
from ingest_service.errors import StorageUnavailable
from ingest_service.upstreams.protocol import Call, FinishedCall
from tests.postgres import StepInTurn
from tests.support import Api, FrozenClock


class _News(FrozenClock):
    """Nobody waits: there is news."""

    def wait_for(
        self, condition: threading.Condition, ready: Callable[[], object], timeout: float | None
    ) -> None:
        assert ready(), f"the end is heard after {timeout} s"


def test_an_end_after_trouble_with_the_database_is_heard_at_once(
    pg: Api, workers: StepInTurn, monkeypatch: pytest.MonkeyPatch
) -> None:
    carrier = workers.workers[0].carrier
    heard: list[Callable[[], None]] = []

    def start(batch: Batch, on_news: Callable[[], None]) -> Call:
        heard.append(on_news)
        return FinishedCall([Outcome(succeeded=True)], carrier.clock.monotonic() + 30)

    def be_gone_once(*_: object) -> None:
        monkeypatch.undo()
        raise StorageUnavailable("The database is gone.")

    pg.ingest([1])
    slot = carrier.dispatch.take()
    assert isinstance(slot, Slot)
    monkeypatch.setattr(carrier.dispatch, "called", be_gone_once)
    monkeypatch.setattr(carrier, "upstream", pg.upstream)
    monkeypatch.setattr(pg.upstream, "start", start)
    under_way = carrier.begin(slot)
    assert under_way is not None

    again_at = under_way.turn()
    workers.pass_by(again_at - carrier.clock.monotonic())
    due = under_way.turn()
    heard[0]()
    carrier.clock = _News()
    under_way.wait(due)
