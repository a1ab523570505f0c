"""Requests as they are answered, counted by route: what only this process knows."""

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import flask
from flask import Flask, Response

from ingest_service.clock import SystemClock
from ingest_service.service.deferral import deferred
from ingest_service.web.held_back import is_held_back

#: In seconds.
BOUNDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
#: What is on no route is counted together: strangers cannot make this grow.
NO_ROUTE = "none"
_METHODS = frozenset(("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"))
#: Where a request's environment has when it began, and what was answered.
_BEGAN, _ANSWERED = "ingest.began", "ingest.answered"


class Answered(NamedTuple):
    """Answers of one kind."""

    route: str
    method: str
    code: int


class HttpCounts:
    """How many answers of which kind, and how long they took."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic
        self._lock = threading.Lock()
        self._answered: dict[Answered, int] = {}
        #: By route and method: a count a bucket, one for those beyond, and the sum of seconds.
        self._durations: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
        self._replays = 0

    def count(self, answered: Answered, seconds: float) -> None:
        """Count an answer."""
        if answered.method not in _METHODS:
            answered = answered._replace(method=NO_ROUTE)
        of_route = answered[:2]
        with self._lock:
            self._answered[answered] = self._answered.get(answered, 0) + 1
            durations = self._durations.get(of_route)
            if durations is None:
                durations = self._durations[of_route] = [0] * (len(BOUNDS) + 1), [0.0]
            durations[0][bisect_left(BOUNDS, seconds)] += 1
            durations[1][0] += seconds

    def end(self, environ: dict[str, Any]) -> None:
        """Count the answer to a request, once nothing can change it any more."""
        answered: Answered = environ[_ANSWERED]
        self.count(answered, self.monotonic() - environ[_BEGAN])

    def count_replay(self) -> None:
        """Count an answer that was given before."""
        with self._lock:
            self._replays += 1

    @property
    def replays(self) -> int:
        """How often an idempotency key was used again."""
        return self._replays

    def answered(self) -> dict[Answered, int]:
        """Return how many answers of each kind there were."""
        with self._lock:
            return dict(self._answered)

    def durations(self) -> dict[tuple[str, str], tuple[list[int], float]]:
        """Return the counts of each bucket, and the sum, by route and method."""
        with self._lock:
            return {name: (list(row), total[0]) for name, (row, total) in self._durations.items()}


def init_app(app: Flask) -> None:
    """Count what `app` answers, from before any hook until after all.

    An answer that waits for its commit is counted by whoever waits; one that is held back is
    counted once, when it is made again.
    """
    counts = HttpCounts(SystemClock().monotonic)
    app.extensions["http_counts"] = counts
    plain = app.wsgi_app

    def wsgi_app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ.setdefault(_BEGAN, counts.monotonic())
        parts = plain(environ, start_response)
        if not deferred.get() and not is_held_back(environ):
            counts.end(environ)
        return parts

    def note(response: Response) -> Response:
        # Once behind the proxy, and not once for each of its fields.
        request = flask.request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
        rule = request.url_rule
        name = NO_ROUTE if rule is None else rule.rule
        request.environ[_ANSWERED] = Answered(name, request.method, response.status_code)
        return response

    app.wsgi_app = wsgi_app  # type: ignore[method-assign]
    app.after_request(note)


def the_counts() -> HttpCounts:
    """Return the counts of this application."""
    counts: HttpCounts = flask.current_app.extensions["http_counts"]
    return counts
