"""The service with a page in chunks that do not end, for clients that sip."""

from collections.abc import Iterator

from flask import Response

from wsgi import app as app


@app.get("/endless")
def endless() -> Response:
    """Return a stream without an end."""

    def parts() -> Iterator[bytes]:
        while True:
            yield b"x" * 65_536

    return Response(parts(), mimetype="text/plain")
