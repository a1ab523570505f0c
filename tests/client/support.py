"""A real service on a real socket, and a clock on which waiting takes no time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

from ingest_service.app import build, create_app
from ingest_service.clock import SystemClock
from ingest_service.settings import Settings
from tests.realtime import GUARD, QUICK


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        pass


@contextmanager
def listening(**changes: Any) -> Iterator[str]:
    """Run the service on a free port of this machine; give its address."""
    settings = Settings(**(QUICK | {"simulated_latency": 0.01} | changes))
    parts = build(settings)
    parts.worker.start()
    server = make_server(
        "127.0.0.1", 0, create_app(settings, parts), threaded=True, request_handler=_Handler
    )
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        parts.engine.drain()
        server.shutdown()
        thread.join(GUARD)
        server.server_close()
        parts.close(GUARD)


@dataclass
class QuickClock(SystemClock):
    """Sleeping takes no time, and is remembered."""

    slept: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def monotonic(self) -> float:
        return super().monotonic() + sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
