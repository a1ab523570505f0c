"""A shell around an application, and a client of it, without a server."""

import asyncio
import io
from collections.abc import Callable
from typing import Any

from flask import Flask

from ingest_service.front.shell import Shell
from tests.realtime import eventually
from tests.uncollected import alive

BODY = b'{"ids": [1, 2, 3], "priority": "LOW"}'
JSON = [(b"content-type", b"application/json")]


class Connection:
    """Somebody who listens, until told otherwise."""

    gone = False
    half_closed = False

    def is_gone(self) -> bool:
        return self.gone


class Client:
    """Sends requests to a shell, without a server."""

    def __init__(self, app: Flask, loop: asyncio.AbstractEventLoop) -> None:
        self.shell = Shell(app, loop)
        self.connection = Connection()
        self.hung_up = asyncio.Event()
        self.answered = asyncio.Event()
        #: Called for every part of an answer.
        self.takes: Callable[[], None] = lambda: None

    async def ask(
        self, method: str, path: str, body: bytes = b"", headers: Any = ()
    ) -> tuple[int, dict[str, str], bytes]:
        raw_path, _, query = path.encode().partition(b"?")
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "raw_path": raw_path,
            "query_string": query,
            "http_version": "1.1",
            "scheme": "http",
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "headers": [(b"host", b"localhost"), *headers],
            "connection": self.connection,
            "arrived": True,
        }
        if body:
            scope["headers"].append((b"content-length", b"%d" % len(body)))
        first = [{"type": "http.request", "body": body, "more_body": False}] if body else []
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if first:
                return first.pop()
            await self.hung_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            self.takes()
            sent.append(message)
            if message["type"] == "http.response.body":
                self.answered.set()

        await self.shell(scope, receive, send)
        start, *parts = sent
        names = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return start["status"], names, b"".join(part["body"] for part in parts)


def run(app: Flask, ask: Callable[[Client], Any]) -> Any:
    """Return what `ask` does, of a shell around `app`."""

    async def ask_it() -> Any:
        client = Client(app, asyncio.get_running_loop())
        try:
            return await asyncio.wait_for(ask(client), 20)
        finally:
            client.shell.close()

    return asyncio.run(ask_it())


def nothing_holds(body: bytes) -> None:
    """Return once a body has been let go; the thread that had it may be a little later."""
    eventually(
        "nothing holds the body",
        lambda: not alive(io.BytesIO, lambda each: len(each.getvalue()) == len(body)),
    )
