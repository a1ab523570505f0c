"""An API to try things with, on a real socket: slow, unreliable, and strict about its rate."""

import itertools
import random
import secrets
import socket
import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote

import orjson

from ingest_service.clock import SystemClock

#: Seconds by which a batch may come too soon: a network does not keep time exactly.
TOLERANCE = 0.02
#: How many batches are remembered.
_MEMORY = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoBehaviour:
    """How it behaves; shares are numbers from 0 to 1."""

    #: Seconds an answer takes.
    latency: float = 0.2
    #: Share of the attempts that fail and may be repeated (503).
    failures: float = 0.1
    #: Share of the items that fail however often they are sent (404 or 422).
    rejects: float = 0.0
    #: Seconds from one batch start to the next; who comes sooner is sent away (429).
    interval: float = 5.0
    #: Makes the failures repeatable.
    seed: int = 0


class Limiter:
    """Allows one batch start an interval; keeps the books."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._lock = threading.Lock()
        #: What was decided about each batch start: its other requests get the same answer.
        self._decided: OrderedDict[object, bool] = OrderedDict()
        self._last = float("-inf")
        #: Seconds between the two batch starts that were closest to each other.
        self.smallest_gap = float("inf")
        self.batches = 0

    def wait(self, start: object, now: float) -> float:
        """Return how long the batch that `start` names has to wait; 0 means it may begin.

        Whoever is sent away does not delay the next start.
        """
        with self._lock:
            if start not in self._decided:
                self._decided[start] = self._begin(now)
                while len(self._decided) > _MEMORY:
                    self._decided.popitem(last=False)
            if self._decided[start]:
                return 0.0
            return max(TOLERANCE, self._last + self._interval - now)

    def _begin(self, now: float) -> bool:
        self.batches += 1
        gap = now - self._last
        self.smallest_gap = min(self.smallest_gap, gap)
        if gap < self._interval - TOLERANCE:
            return False
        self._last = now
        return True


class DemoUpstream:
    """Serves on 127.0.0.1 from `start` to `stop`; port 0 takes a free one."""

    def __init__(self, behaviour: DemoBehaviour | None = None, port: int = 0) -> None:
        self.behaviour = behaviour or DemoBehaviour(latency=0, failures=0, interval=0)
        self.limiter = Limiter(self.behaviour.interval)
        self._server = _Server(("127.0.0.1", port), self)
        self._clock = SystemClock()
        self._thread = threading.Thread(target=self.serve, name="demo-upstream", daemon=True)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._anonymous = itertools.count()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> Self:
        """Serve in a thread of its own."""
        self._thread.start()
        return self

    def serve(self) -> None:
        """Serve until `stop` is called, or the user interrupts."""
        self._server.serve_forever(poll_interval=0.02)

    def stop(self) -> None:
        """Stop to listen, and hang up on everybody."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.hang_up()
        self._server.server_close()

    def stats(self) -> dict[str, Any]:
        """Return what it has seen so far."""
        gap = self.limiter.smallest_gap
        with self._lock:
            counts = dict(self._counts)
        return {
            "requests": 0,
            "connections": 0,
            "succeeded": 0,
            "failed_503": 0,
            "rejected_404": 0,
            "rejected_422": 0,
            "rejected_429": 0,
            **counts,
            "batches": self.limiter.batches,
            "smallest_gap": None if gap == float("inf") else round(gap, 4),
        }

    def count(self, what: str) -> None:
        """Note that `what` happened once more."""
        with self._lock:
            self._counts[what] += 1

    def wait(self, key: str | None, attempt: str) -> float:
        """Return for how many seconds a request has to go away; 0 if it is welcome."""
        batch_id = key.partition("/")[0] if key else f"anonymous {next(self._anonymous)}"
        return self.limiter.wait((batch_id, attempt), self._clock.monotonic())

    def answer(self, item: Any, attempt: str) -> tuple[HTTPStatus, dict[str, Any]]:
        """Return what becomes of one item: the same for the same seed, item and attempt."""
        name = item["id"] if isinstance(item, dict) else item
        status = self._status(name, attempt)
        self.count(_COUNTED[status])
        if status is HTTPStatus.OK:
            done = item if isinstance(item, dict) else {"id": item}
            return status, {**done, "answered_by": "demo-upstream"}
        failed = {"status": "failed", "error": status.phrase, "status_code": status.value}
        return status, {"id": name, **failed}

    def take_time(self) -> None:
        """Be as slow as it was told to."""
        if self.behaviour.latency:
            self._clock.sleep(self.behaviour.latency)

    def _status(self, name: object, attempt: str) -> HTTPStatus:
        seed = self.behaviour.seed
        # Nothing secret hangs on it. By item, because threads come in any order.
        fate = random.Random(f"{seed} {name}").random()  # noqa: S311 # nosec B311
        if fate < self.behaviour.rejects:
            if fate < self.behaviour.rejects / 2:
                return HTTPStatus.NOT_FOUND
            return HTTPStatus.UNPROCESSABLE_ENTITY
        chance = random.Random(f"{seed} {name} {attempt}").random()  # noqa: S311 # nosec B311
        if chance < self.behaviour.failures:
            return HTTPStatus.SERVICE_UNAVAILABLE
        return HTTPStatus.OK


_COUNTED = {
    HTTPStatus.OK: "succeeded",
    HTTPStatus.SERVICE_UNAVAILABLE: "failed_503",
    HTTPStatus.NOT_FOUND: "rejected_404",
    HTTPStatus.UNPROCESSABLE_ENTITY: "rejected_422",
}


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], upstream: DemoUpstream) -> None:
        super().__init__(address, _Handler)
        self.upstream = upstream
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def server_bind(self) -> None:
        # Without asking the name server, as `HTTPServer` would, what the address is called.
        super(ThreadingHTTPServer, self).server_bind()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.upstream.count("connections")
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up is none of an API's business."""

    def hang_up(self) -> None:
        with self._lock:
            for connection in self._open:
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "demo-upstream"
    disable_nagle_algorithm = True
    # One packet an answer.
    wbufsize = -1
    server: _Server

    def do_GET(self) -> None:
        if self.path == "/stats":
            self._send(HTTPStatus.OK, self.server.upstream.stats())
        elif (name := self._item()) is not None:
            self._one(int(name) if name.isascii() and name.isdecimal() else name)
        else:
            self._send(HTTPStatus.NOT_FOUND, {"error": "There is no such path."})

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            body = orjson.loads(text)
        except ValueError:
            self._send(HTTPStatus.BAD_REQUEST, {"error": "This is not JSON."})
            return
        name = self._item()
        if name is not None:
            self._one({**body, "id": name} if isinstance(body, dict) else {"id": name})
        elif self.path == "/batch":
            self._batch(body)
        else:
            self._send(HTTPStatus.NOT_FOUND, {"error": "There is no such path."})

    def _item(self) -> str | None:
        prefix, slash, name = self.path.rpartition("/")
        return unquote(name) if (prefix, slash) == ("/items", "/") and name else None

    def _one(self, item: Any) -> None:
        if self._welcome():
            self.server.upstream.take_time()
            self._send(*self.server.upstream.answer(item, self._attempt))

    def _batch(self, body: Any) -> None:
        items = body.get("ids") or body.get("mappings") if isinstance(body, dict) else None
        if not isinstance(items, list):
            self._send(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": "No `ids` and no `mappings`."})
        elif self._welcome():
            self.server.upstream.take_time()
            answers = [self.server.upstream.answer(item, self._attempt) for item in items]
            self._send(HTTPStatus.OK, {"results": [answer for _, answer in answers]})

    @property
    def _attempt(self) -> str:
        return self.headers.get("X-Ingest-Attempt", "1")

    def _welcome(self) -> bool:
        upstream = self.server.upstream
        upstream.count("requests")
        wait = upstream.wait(self.headers.get("Idempotency-Key"), self._attempt)
        if wait:
            upstream.count("rejected_429")
            body = {"error": "Too many batches."}
            # Whole seconds, rounded up: the header knows no others.
            self._send(HTTPStatus.TOO_MANY_REQUESTS, body, {"Retry-After": str(int(wait) + 1)})
        return not wait

    def _send(
        self, status: HTTPStatus, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        text = orjson.dumps(body)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Write no line a request."""


def fresh_seed() -> int:
    """Return a seed by chance."""
    return secrets.randbits(32)
