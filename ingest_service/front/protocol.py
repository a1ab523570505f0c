"""What an application never sees of a connection: deadlines, room, stuck readers, bad HTTP."""

import asyncio
from typing import Any

from gunicorn.asgi.protocol import ASGIProtocol

from ingest_service.front import limits
from ingest_service.front.framing import Framing
from ingest_service.front.refusals import Refused

# On the base class, or the subclass would silently get the slow parser.
ASGIProtocol._check_h1c_protocol_available()  # noqa: SLF001 - see `names`


class FrontProtocol(ASGIProtocol):  # type: ignore[misc]  # gunicorn has no types
    """A connection; its worker sees to it that it does not stay for nothing."""

    _closed: bool
    half_closed = False  # nothing more will come, and it reads on
    _ahead = b""  # its turn comes later; the parser keeps only a little of that

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Find room for it, and give it time for its first head."""
        self.framing = Framing()
        super().connection_made(transport)
        self.worker.await_head(self)
        self.worker.admit(self)

    def data_received(self, data: bytes) -> None:
        """Take what has arrived; after the last answer that is nothing."""
        for at in range(0, len(data), limits.SLICE):
            receiver = self._body_receiver
            if receiver is not None and receiver._complete:  # noqa: SLF001 - see `names`
                self._ahead += data[at:]
                if len(self._ahead) > limits.SLICE:
                    self._pause_reading()
                return
            if not self._closed:
                super().data_received(data[at : at + limits.SLICE])

    def eof_received(self) -> bool:
        """Answer what was asked completely: a client may close its half and read on."""
        receiver = self._body_receiver
        if self._closed or receiver is None or not receiver._complete:  # noqa: SLF001 - see `names`
            return False
        self.half_closed = True
        # Who waits for a change is answered now: perhaps nobody is there. A body is read first.
        if receiver._body_finished:  # noqa: SLF001 - see `names`
            receiver.signal_disconnect()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it, and let nobody wait for it."""
        super().connection_lost(exc)
        self.worker.lose(self)
        self._request_ready.set()
        self.resume_writing()

    def pause_writing(self) -> None:
        """Watch how fast a client takes its answer once more of it waits than there is room."""
        super().pause_writing()
        self.worker.watch_reader(self)

    def resume_writing(self) -> None:
        """Watch no longer."""
        super().resume_writing()
        self.worker.stuck.pop(self, None)

    def is_gone(self) -> bool:
        """Tell whether nobody takes an answer any more."""
        return self._closed

    def refuse(self, refusal: Refused) -> None:
        """Answer with a problem, close the connection, and have no part of a request done."""
        if self._body_receiver is not None:
            self._body_receiver.signal_disconnect()
        self._safe_write(refusal.to_bytes())
        self._close_transport()

    def _feed_callback_parser(self, data: bytes) -> bool:
        if not super()._feed_callback_parser(data):
            return False
        if not self._request_ready.is_set() and not self.framing.head_bytes:
            self.worker.await_head(self)
        if wrong := self.framing.follow(data, self._current_request):
            self.refuse(Refused("malformed-request", wrong))
        return not wrong

    def _send_error_response(self, status: int, message: str, _: Any = ()) -> None:
        self.log.debug("Not an HTTP request: %r", message)
        self._safe_write(Refused.by_server(status).to_bytes())

    def _close_transport(self) -> None:
        if not self._closed:
            self._closed = True
            self._request_ready.set()
            self.worker.linger(self)

    def _arm_keepalive_timer(self) -> None:
        self.worker.await_head(self)
        self._take_ahead()
        if self.half_closed and not self._request_ready.is_set():
            self._close_transport()

    def _cancel_keepalive_timer(self) -> None:
        self.worker.late.pop(self, None)
        self._take_ahead()

    def _take_ahead(self) -> None:
        data, self._ahead = self._ahead, b""
        self.data_received(data)

    def _is_websocket_upgrade(self, _: Any) -> bool:
        return False  # RFC 9110, section 7.8: an upgrade may be ignored

    def _build_http_scope(self, *request: Any) -> dict[str, Any]:
        scope: dict[str, Any] = super()._build_http_scope(*request)
        arrived = self._body_receiver._complete  # noqa: SLF001 - see `names`
        return scope | {"connection": self, "arrived": arrived}
