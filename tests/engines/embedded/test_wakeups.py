"""The worker's thread wakes up for everything that happens just before it goes to sleep."""

import time

import pytest

from ingest_service.app import build
from ingest_service.domain.items import Ids
from ingest_service.domain.model import Priority
from ingest_service.settings import Settings
from tests.realtime import GUARD, eventually


def test_work_that_comes_between_looking_and_waiting_is_not_overlooked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The step has seen an empty line; when the wait begins it is not empty any more."""
    parts = build(Settings(interval=0, settle=0, simulated_latency=0))
    accepted: list[str] = []
    step = parts.worker.step

    def step_and_accept() -> float:
        due = step()
        if due > time.monotonic() + 1 and len(accepted) < 2:
            accepted.append(parts.service.submissions.accept(Ids([1]), Priority.LOW).ingestion_id)
        return due

    monkeypatch.setattr(parts.worker, "step", step_and_accept)
    parts.worker.start()
    eventually(
        "both are done",
        lambda: len(accepted) == 2 and not parts.service.queries.health().unfinished,
    )
    assert parts.worker.stop(GUARD)
