"""How long the upstream is left alone when it asks for it, whatever happens meanwhile."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ingest_service.domain.model import Outcome
from ingest_service.errors import StorageUnavailable
from tests.meanwhile import refuse_records
from tests.restarts import restarting
from tests.service.operating import replies
from tests.support import Api, FrozenClock

ASKS = Outcome(succeeded=False, error="slow down", retry_after=60.0)


class SetClock(FrozenClock):
    """Shows a wall time that somebody has set; the monotonic one is not touched by that."""

    off = timedelta()

    def monotonic(self) -> float:
        return super().now().timestamp()

    def now(self) -> datetime:
        return super().now() + self.off


@pytest.mark.parametrize("broken", [0, 40, 100])
@pytest.mark.embedded
def test_a_hold_counts_from_the_end_of_the_call_however_long_the_disk_is_broken(
    api: Api, broken: float
) -> None:
    """Once; and while it cannot be recorded nothing is started either."""
    api.upstream.reply = replies(ASKS)
    api.ingest([1])
    api.ingest([2])
    api.advance(1)
    heal = refuse_records(api.parts.journal, object, StorageUnavailable("Full."))
    api.advance(0.45 + broken)
    heal()
    api.advance(200)
    (_, second) = (at for at, _ in api.sent())

    assert max(61.45, 1.45 + broken) <= second <= max(61.45, 1.45 + broken) + 0.3


@pytest.mark.parametrize("rebooted", [False, True], ids=["same boot", "rebooted"])
@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_hold_survives_a_crash_and_a_clock_that_is_set(
    tmp_path: Path, hours: int, rebooted: bool
) -> None:
    """By the monotonic clock; only after a reboot there is but the other one to go by."""
    clock = SetClock()
    with restarting(tmp_path / "journal", clock=clock) as lives:
        lives.api.upstream.reply = replies(ASKS)
        lives.api.ingest([1])
        lives.api.ingest([2])
        lives.api.advance(2)
        clock.off = timedelta(hours=0 if rebooted else hours)
        clock.boot_id = "another" if rebooted else clock.boot_id
        lives.crash(down=10)
        lives.api.advance(200)
        starts = [at for at, _ in lives.api.sent()]
    assert starts == [0.45, 61.45]
