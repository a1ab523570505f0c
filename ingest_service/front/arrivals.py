"""Bodies while they arrive: bounded one by one and all together, each with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ingest_service.front import limits
from ingest_service.front.refusals import ClientGone, Refused

Receive = Callable[[], Awaitable[dict[str, Any]]]


class Arrival:
    """A body of which some has arrived."""

    def __init__(self, began: float, deadline: asyncio.Timeout) -> None:
        self.began = began
        self.received = bytearray()
        self._deadline = deadline
        self._in_time = True

    def refuse(self) -> None:
        """End it now: there is no room for it."""
        self._in_time = False
        self._deadline.reschedule(self.began)

    def refusal(self) -> Refused:
        """Return why it was ended; a new one, because what was raised holds what has raised it."""
        if self._in_time:
            return Refused.late()
        return Refused("not-ready", "Too many requests are arriving at once.")


class Arrivals:
    """All bodies that arrive or are worked on."""

    def __init__(self, body_limit: int, loop: asyncio.AbstractEventLoop) -> None:
        self._body_limit = body_limit
        self._loop = loop
        self._arriving: set[Arrival] = set()
        #: Bytes of all bodies, those that have arrived and are worked on included.
        self.held = 0

    async def read(self, receive: Receive, *, arrived: bool) -> bytes:
        """Return a body; whoever gets it calls `release` once it is not needed any more.

        Raise `Refused` or `ClientGone`.
        """
        message = None
        if arrived:
            # It came along with the head, as most do, and mostly in one piece.
            message = await receive()
            if message["type"] == "http.request" and not message["more_body"]:
                body: bytes = message["body"]
                self._check(len(body))
                self.held += len(body)
                return body
        return await self._read_slowly(receive, message)

    def release(self, body: bytes) -> None:
        """Forget a body that was read."""
        self.held -= len(body)

    def refuse_oldest(self) -> bool:
        """End the arrival that has taken longest; tell whether there was one."""
        if not self._arriving:
            return False
        self._end(min(self._arriving, key=lambda arrival: arrival.began))
        return True

    async def _read_slowly(self, receive: Receive, message: dict[str, Any] | None) -> bytes:
        try:
            async with asyncio.timeout(limits.BODY_SECONDS) as deadline:
                arrival = Arrival(self._loop.time(), deadline)
                self._arriving.add(arrival)
                message = message or await receive()
                while self._take(arrival, message):
                    message = await receive()
                # Whoever reads these shares them; what can grow would be copied.
                return bytes(arrival.received)
        except TimeoutError:
            self.held -= len(arrival.received)
            raise arrival.refusal() from None
        except BaseException:
            self.held -= len(arrival.received)
            raise
        finally:
            self._arriving.discard(arrival)

    def _take(self, arrival: Arrival, message: dict[str, Any]) -> bool:
        """Add a piece to a body; tell whether there is more to come."""
        if message["type"] != "http.request":
            raise ClientGone
        piece: bytes = message["body"]
        self._check(len(arrival.received) + len(piece))
        arrival.received += piece
        self.held += len(piece)
        if self.held > limits.MAX_BODIES * (self._body_limit + limits.MAX_HEAD):
            self._make_room()
        if arrival not in self._arriving:
            raise arrival.refusal()
        more: bool = message["more_body"]
        return more

    def _make_room(self) -> None:
        """Refuse who holds most for longest, which is not always who comes last."""
        now = self._loop.time()
        if self._arriving:
            self._end(max(self._arriving, key=lambda each: len(each.received) * (now - each.began)))

    def _end(self, arrival: Arrival) -> None:
        arrival.refuse()
        self._arriving.discard(arrival)
        self.held -= len(arrival.received)
        arrival.received = bytearray()

    def _check(self, size: int) -> None:
        if size > self._body_limit:
            raise Refused("payload-too-large", f"The body is larger than {self._body_limit} bytes.")
