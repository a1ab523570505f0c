"""The service with an upstream that writes down, in a file, when each batch was started."""

import json
import os
import time
from collections.abc import Callable

from ingest_service.app import build, create_app
from ingest_service.domain.model import Batch, Outcome
from ingest_service.settings import Settings
from ingest_service.upstreams.protocol import Call, FinishedCall
from tests.crash.server import RECORD


class RecordingFileUpstream:
    """Appends a line a start, which outlives the process; takes `latency` seconds a batch."""

    def __init__(self, path: str, latency: float) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.latency = latency

    def trouble(self) -> str | None:
        return None

    def start(self, batch: Batch, on_end: Callable[[], None]) -> Call:
        now = time.monotonic()
        os.write(self._file, json.dumps([now, batch.batch_id, list(batch.items)]).encode() + b"\n")
        return FinishedCall([Outcome(succeeded=True) for _ in batch.items], now + self.latency)


settings = Settings.from_env(os.environ)
parts = build(
    settings, upstream=RecordingFileUpstream(os.environ[RECORD], settings.simulated_latency)
)
parts.worker.start()
app = create_app(settings, parts)
