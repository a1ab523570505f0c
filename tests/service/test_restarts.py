"""Random histories with crashes, restarts and a wall clock that jumps."""

import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from ingest_service.app import build
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from tests.lives import SETTINGS, Lives
from tests.support import FrozenClock, Stepper

HOUR, DAY = 3_600, 86_400


class JumpingClock(FrozenClock):
    """Shows a wall time that was set wrong; the monotonic one is not touched by that."""

    off = timedelta()

    def monotonic(self) -> float:
        return super().now().timestamp()

    def now(self) -> datetime:
        return super().now() + self.off


class LivesWithAJournal(Lives):
    """One process after the other on a journal in a file."""

    clock_type = JumpingClock
    clock: JumpingClock

    def prepare(self) -> None:
        """Make a folder for the journal."""
        self.folder = tempfile.TemporaryDirectory()

    def boot(self) -> None:
        """Start a process on the journal."""
        journal = SqliteJournal(Path(self.folder.name) / "journal.sqlite3")
        self.parts = build(SETTINGS, clock=self.clock, journal=journal, upstream=self.upstream)
        self.time = Stepper(self.frozen, self.clock, self.parts.worker)

    def end(self) -> None:
        """Let go of the journal."""
        self.parts.journal.close()

    @precondition(lambda self: self.restarts < 4)
    @rule(down=st.integers(0, 40))
    def crash(self, down: int) -> None:
        """End without a word, and come back `down` quarters of a second later."""
        self.restarts += 1
        self.end()
        self.frozen.tick(timedelta(seconds=down / 4))
        self.boot()

    @rule(off=st.sampled_from([-DAY, -HOUR, 0, HOUR, DAY]))
    def set_wall_clock(self, off: int) -> None:
        """Somebody, or a time server, sets the clock."""
        self.clock.off = timedelta(seconds=off)

    def teardown(self) -> None:
        """Forget the journal."""
        super().teardown()
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestRestarts = LivesWithAJournal.TestCase
TestRestarts.settings = hypothesis_settings(max_examples=60, stateful_step_count=20, deadline=None)
