"""What is answered without the application: problems, as the application would word them."""

from typing import Self

from flask import Flask

from ingest_service.front.bridge import Answer, Environ, call
from ingest_service.web.admission import tell_page
from ingest_service.web.problems import problem


class Refused(Exception):
    """A request is answered at once with a problem of the kind `slug`."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.slug = slug

    @classmethod
    def by_server(cls, status: int) -> Self:
        """Return what gunicorn refuses with `status` and words of its own."""
        if status == 500:
            return cls("internal-error", "Something went wrong here.")
        return cls("malformed-request", "The request is not valid HTTP.")

    def answer(self, app: Flask, environ: Environ) -> Answer:
        """Return the answer to the request of `environ`."""
        response = problem(self.slug, str(self))
        if self.slug == "not-ready":
            response.headers["Retry-After"] = "1"
        return call(tell_page(app, environ, response), environ)

    def to_bytes(self) -> bytes:
        """Return an answer to what is not even a request, the last one of its connection."""
        response = problem(self.slug, str(self))
        body = response.get_data()
        head = (
            f"HTTP/1.1 {response.status}\r\nConnection: close\r\n"
            f"Content-Type: {response.content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class ClientGone(Exception):
    """Nobody is there to be answered."""
