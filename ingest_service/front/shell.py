"""The shell: an ASGI application around the synchronous one.

What is quick is called in the loop, what can take long in a few threads; the answer to
a submission waits for its commit, and a client that waits for a change, without a thread.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

from flask import Flask, Response

from ingest_service import logs
from ingest_service.errors import IngestionNotFound, StorageUnavailable
from ingest_service.front import limits
from ingest_service.front.arrivals import Arrivals, Receive
from ingest_service.front.bridge import Answer, Environ, Parts, call, environ_of, give_body
from ingest_service.front.commits import Commits
from ingest_service.front.pool import Pool
from ingest_service.front.refusals import ClientGone, Refused
from ingest_service.front.waiters import Waiters
from ingest_service.service.deferral import deferred
from ingest_service.web import admission, door
from ingest_service.web.held_back import HELD_BACK, HeldBack
from ingest_service.web.http_counts import HttpCounts
from ingest_service.web.media_type import ADMITTED

Scope = dict[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_CLOSE = (b"Connection", b"close")
_MAX_LONG = 10_000


class Shell:
    """Serves one `create_app()` application; `scope["connection"]` tells who asks."""

    def __init__(self, app: Flask, loop: asyncio.AbstractEventLoop) -> None:
        self._app = app
        self._counts: HttpCounts = app.extensions["http_counts"]
        self._pool = Pool(loop, limits.POOL_THREADS, limits.POOL_WAITING)
        self._streams = Pool(loop, limits.STREAM_THREADS, 0)
        self._large = asyncio.Semaphore(1)
        self._commits = Commits(loop)
        self._waiters = Waiters(loop, self._pool, app.extensions["ingest_service"].queries.watch)
        self.arrivals = Arrivals(app.config["BODY_LIMIT"], loop)
        #: Paths whose last answer was large; the next one is made in a thread.
        self._long: dict[str, None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        environ = environ_of(scope)
        body, closing = b"", False
        try:
            refusal = admission.admit(self._app, environ)
            if refusal is not None:
                await self._refuse(refusal, environ, scope, receive, send)
                return
            environ[ADMITTED] = True
            if "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ:
                body = await self.arrivals.read(receive, arrived=scope["arrived"])
                if environ["REQUEST_METHOD"] in door.SAFE:
                    # It can name an ingestion; whoever waits for a change keeps no more for that.
                    self.arrivals.release(body)
                    give_body(environ, body if len(body) <= limits.ASKING_BODY else b"")
                    body = b""
                else:
                    give_body(environ, body)
            answer = await self._answer(environ, len(body), scope["connection"], receive)
        except Refused as error:
            # Its body may not have been read to the end.
            answer, closing = error.answer(self._app, environ), True
        except ClientGone:
            if scope["connection"].is_gone():
                return
            # The server has waited long enough for its body.
            answer, closing = Refused.late().answer(self._app, environ), True
        finally:
            self.arrivals.release(body)
        # A client may take its answer slowly: nothing else is kept for so long.
        del environ, body
        if isinstance(answer.body, Parts):
            await send(_start(answer))
            await self._stream(answer.body, send, scope["connection"])
        else:
            await _send(send, answer, closing=closing)

    def release_waiters(self) -> None:
        """Answer all who wait for a change."""
        self._waiters.release()

    def close(self) -> None:
        """Begin nothing more in a thread."""
        self._pool.close()
        self._streams.close()

    async def _answer(
        self, environ: Environ, size: int, connection: Any, receive: Receive
    ) -> Answer:
        held = environ[HELD_BACK] = HeldBack()
        answer = await self._answer_now(environ, size, connection)
        if held.awaited is None:
            return answer
        # It may be large, and nobody sees it.
        del answer
        await self._waiters.wait(*held.awaited, receive, lambda: connection.half_closed)
        if connection.is_gone():
            raise ClientGone
        held.end()
        environ["wsgi.input"].seek(0)
        return await self._answer_now(environ, size, connection)

    async def _answer_now(self, environ: Environ, size: int, connection: Any) -> Answer:
        quick = size <= limits.QUICK_BODY and _named(environ) not in self._long
        if quick and admission.is_quick(self._app, environ):
            return await self._answer_in_loop(environ)
        work = partial(call, self._app, environ)
        if size <= limits.LARGE_BODY:
            return await self._pool.run(work, connection.is_gone)
        # A parser holds the interpreter: one such body at a time.
        async with self._large:
            return await self._pool.run(work, connection.is_gone)

    async def _answer_in_loop(self, environ: Environ) -> Answer:
        commits: list[Any] = []
        deferred.set(commits)
        answer = call(self._app, environ)
        if commits:
            try:
                await self._commits.settled(commits)
            except Exception as error:  # noqa: BLE001 - the application has words for each
                answer = call(admission.answer_for(self._app, environ, error), environ)
            self._counts.end(environ)
        elif isinstance(answer.body, Parts) or len(answer.body) > limits.QUICK_BODY:
            if len(self._long) >= _MAX_LONG:
                self._long.clear()
            self._long[_named(environ)] = None
        return answer

    async def _stream(self, parts: Parts, send: Send, connection: Any) -> None:
        """Send a body part by part, each made in a thread once the last one has been taken."""
        try:
            part: bytes | None = b""
            while part is not None and not connection.is_gone():
                try:
                    part = await self._streams.run(parts.take, bounded=False)
                except Exception as error:  # noqa: BLE001 - whatever it is, the rest is missing
                    _log_cut(error)
                    connection.worker.cut_off(connection)
                    return
                more = part is not None
                await send({"type": "http.response.body", "body": part or b"", "more_body": more})
        finally:
            self._streams.forget(parts.close)

    async def _refuse(
        self, refusal: Response, environ: Environ, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Send a problem at once; the connection is kept if the rest of the request soon comes."""
        length = environ.get("CONTENT_LENGTH", "0")
        closing = "HTTP_TRANSFER_ENCODING" in environ or "HTTP_EXPECT" in environ
        most = min(limits.QUICK_BODY, self._app.config["BODY_LIMIT"])
        closing = closing or not length.isdigit() or int(length[:19]) > most
        await _send(send, call(refusal, environ), closing=closing)
        if not closing and int(length):
            # Without all of it the server closes the connection; the answer has been given.
            with suppress(Refused, ClientGone):
                body = await self.arrivals.read(receive, arrived=scope["arrived"])
                self.arrivals.release(body)


def _named(environ: Environ) -> str:
    """Return what a path asks for, however it is written."""
    path: str = environ["PATH_INFO"]
    return path.lower().rstrip("/")


def _start(answer: Answer, *more: tuple[bytes, bytes]) -> dict[str, Any]:
    headers = [*answer.headers, *more]
    return {"type": "http.response.start", "status": answer.status, "headers": headers}


def _log_cut(error: Exception) -> None:
    expected = isinstance(error, (IngestionNotFound, StorageUnavailable))
    logs.event(
        "answer_cut_off",
        level=logging.WARNING if expected else logging.ERROR,
        exc_info=False if expected else error,
        reason=str(error) or type(error).__name__,
    )


async def _send(send: Send, answer: Answer, *, closing: bool = False) -> None:
    await send(_start(answer, _CLOSE) if closing else _start(answer))
    await send({"type": "http.response.body", "body": answer.body})
