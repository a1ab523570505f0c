"""What is left of a connection that was closed: nothing."""

import asyncio
from types import SimpleNamespace

import pytest
import uvloop
from gunicorn.config import Config
from gunicorn.glogging import Logger

from ingest_service.app import create_app
from ingest_service.front.protocol import FrontProtocol
from ingest_service.front.shell import Shell
from ingest_service.front.worker import FrontWorker
from ingest_service.settings import Settings
from tests.realtime import GUARD
from tests.uncollected import alive, uncollected

_ASK = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


async def _talk(said: bytes) -> list[FrontProtocol]:
    """Say something to a server and hang up; return what it keeps of that, if it goes on so."""
    loop, config = asyncio.get_running_loop(), Config()
    # What it does for so long after the end is nobody's concern here.
    config.set("asgi_disconnect_grace_period", 0)
    config.set("http_parser", "fast")
    worker = FrontWorker(1, 0, [], SimpleNamespace(cfg=config), 30, config, Logger(config))
    worker.loop, worker.asgi = loop, Shell(create_app(Settings()), loop)
    async with await loop.create_server(lambda: FrontProtocol(worker), "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(said)
        if said.endswith(b"\r\n\r\n"):
            assert await reader.read(12) == b"HTTP/1.1 200"
        writer.close()
        deadline = loop.time() + GUARD
        while alive(FrontProtocol) and loop.time() < deadline:
            await asyncio.sleep(0.01)
    worker.asgi.close()
    worker.tmp.close()
    return alive(FrontProtocol)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(_ASK, id="half-a-head"),
        pytest.param(_ASK + b"\r\n", id="a-request"),
        pytest.param(_ASK + b"Connection: close\r\n\r\n", id="the-last-request"),
        pytest.param(_ASK + b"Content-Length: 9\r\n\r\nabc", id="half-a-body"),
    ],
)
def test_a_connection_is_let_go_when_it_is_closed(said: bytes) -> None:
    """Not when the collector comes by: there can be thousands."""
    with uncollected(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(_talk(said)) == []
