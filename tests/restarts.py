"""A service with a journal, in frozen time, that can end without a word and come back."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory

from ingest_service.app import build, create_app
from ingest_service.settings import Settings
from tests.support import EPOCH, Api, FrozenClock, RecordingUpstream, Stepper


class Restarts:
    """One journal, one upstream, and one process after the other between them."""

    def __init__(
        self, frozen: FrozenDateTimeFactory, path: Path, settings: Settings, clock: FrozenClock
    ) -> None:
        self._frozen = frozen
        self._settings = replace(settings, journal=str(path))
        self._clock = clock
        self._upstream = RecordingUpstream(self._clock)
        self._began = self._clock.monotonic()
        self.api = self._boot()

    def crash(self, down: float = 0.0, **changes: Any) -> None:
        """End at once; come back `down` seconds later with other settings."""
        self.close()
        self.pass_by(down)
        self._settings = replace(self._settings, **changes)
        self.api = self._boot()

    def pass_by(self, seconds: float) -> None:
        """Let time pass in which nobody does anything."""
        self._frozen.tick(timedelta(seconds=seconds))

    def close(self) -> None:
        """End for good."""
        self.api.parts.journal.close()

    def _boot(self) -> Api:
        parts = build(self._settings, clock=self._clock, upstream=self._upstream)
        client = create_app(self._settings, parts).test_client()
        timeline = Stepper(self._frozen, self._clock, parts.worker)
        return Api(client, timeline, self._upstream, self._began, parts)


@contextmanager
def restarting(
    path: Path,
    settings: Settings | None = None,
    clock: FrozenClock | None = None,
    at: str = EPOCH,
) -> Iterator[Restarts]:
    """Give a service whose journal is at `path`, from the moment `at` on."""
    with freeze_time(at) as frozen:
        assert isinstance(frozen, FrozenDateTimeFactory)
        restarts = Restarts(frozen, path, settings or Settings(), clock or FrozenClock())
        yield restarts
        restarts.close()
