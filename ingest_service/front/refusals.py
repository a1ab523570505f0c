"""What is answered without the application: problems, as the application would word them."""

from typing import Self

from flask import Flask

from ingest_service.domain.ids import fresh_id
from ingest_service.front.bridge import Answer, Environ, call
from ingest_service.web.admission import complete
from ingest_service.web.answer_headers import complete_head
from ingest_service.web.http_counts import NO_ROUTE, Answered, HttpCounts
from ingest_service.web.problems import problem


class Refused(Exception):
    """A request is answered at once with a problem of the kind `slug`."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.slug = slug

    @classmethod
    def late(cls) -> Self:
        """Return what is answered to a request that does not arrive in time."""
        return cls("request-timeout", "The request took too long to arrive.")

    @classmethod
    def by_server(cls, status: int) -> Self:
        """Return what gunicorn refuses with `status` and words of its own."""
        if status == 500:
            return cls("internal-error", "Something went wrong here.")
        return cls("malformed-request", "The request is not valid HTTP.")

    def answer(self, app: Flask, environ: Environ) -> Answer:
        """Return the answer to the request of `environ`."""
        response = problem(self.slug, str(self))
        counts: HttpCounts = app.extensions["http_counts"]
        counts.count(Answered(NO_ROUTE, environ["REQUEST_METHOD"], response.status_code), 0.0)
        if self.slug == "not-ready":
            response.headers["Retry-After"] = "1"
        return call(complete(app, environ, response), environ)

    def to_bytes(self) -> bytes:
        """Return an answer to what is not even a request, the last one of its connection."""
        response = complete_head(problem(self.slug, str(self)), fresh_id())
        body = response.get_data()
        response.headers["Content-Length"] = str(len(body))
        response.headers["Connection"] = "close"
        lines = (f"{name}: {text}\r\n" for name, text in response.headers)
        return f"HTTP/1.1 {response.status}\r\n{''.join(lines)}\r\n".encode() + body


class ClientGone(Exception):
    """Nobody is there to be answered."""
