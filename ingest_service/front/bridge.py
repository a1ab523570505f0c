"""A synchronous application behind an asynchronous interface: environment in, answer out."""

import io
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

Environ = dict[str, Any]
Headers = list[tuple[bytes, bytes]]
#: A WSGI application; an answer of Werkzeug's is one, too.
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

_CONSTANT: Environ = {
    "SCRIPT_NAME": "",
    "SERVER_SOFTWARE": "gunicorn",
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
    "wsgi.input_terminated": True,
}
#: Names that are the same in every request are made once; strangers cannot make this grow.
_MAX_NAMES = 500
_LONGEST_NAME = 100
_names = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
_absolute = (b"http://", b"https://")


class Parts:
    """A body that is made while it is sent, in one thread after the other."""

    def __init__(self, parts: Iterator[bytes], close: Callable[[], object]) -> None:
        self._parts = parts
        self._close = close
        self._lock = threading.Lock()

    def take(self) -> bytes | None:
        """Return the next part, None after the last."""
        with self._lock:
            return next(self._parts, None)

    def close(self) -> None:
        """Make no more; what is being made is waited for."""
        with self._lock:
            self._close()


class Answer(NamedTuple):
    """What an application has answered."""

    status: int
    headers: Headers
    body: bytes | Parts


def environ_of(scope: Mapping[str, Any]) -> Environ:
    """Return the environment of a request (PEP 3333) whose body has not been read."""
    environ = _CONSTANT.copy()
    path, authority = _target(scope["raw_path"])
    environ["REQUEST_METHOD"] = scope["method"]
    environ["PATH_INFO"] = path
    environ["QUERY_STRING"] = scope["query_string"].decode("latin-1")
    environ["SERVER_PROTOCOL"] = f"HTTP/{scope['http_version']}"
    environ["wsgi.url_scheme"] = scope["scheme"]
    environ["wsgi.input"] = io.BytesIO()
    client, server = scope["client"], scope["server"]
    environ["REMOTE_ADDR"] = client[0] if client else ""
    environ["SERVER_NAME"], environ["SERVER_PORT"] = (
        (server[0], str(server[1])) if server and len(server) == 2 else ("localhost", "0")
    )
    for name, value in scope["headers"]:
        key = _names.get(name) or _name(name)
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    if authority is not None:
        # RFC 9112, section 3.2.2: what the target says counts more than the field.
        environ["HTTP_HOST"] = authority
    # RFC 9110, section 7.8: an upgrade may be ignored.
    environ.pop("HTTP_UPGRADE", None)
    return environ


def give_body(environ: Environ, body: bytes) -> None:
    """Let the application read `body`, whose framing is gone."""
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)


def call(application: Application, environ: Environ) -> Answer:
    """Have a request answered; a body of known length is there at once."""
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> None:
        started[:] = status, headers

    parts = application(environ, start_response)
    close = getattr(parts, "close", _nothing)
    try:
        status, fields = started
        headers, length = [], False
        for name, value in fields:
            length = length or name.lower() == "content-length"
            headers.append((name.encode("latin-1"), value.encode("latin-1")))
        if length or environ["REQUEST_METHOD"] == "HEAD" or status.startswith(("204", "304")):
            body = b"".join(parts)
            close()
            return Answer(int(status[:3]), headers, body)
    except BaseException:
        close()
        raise
    return Answer(int(status[:3]), headers, Parts(iter(parts), close))


def _target(raw: bytes) -> tuple[str, str | None]:
    """Return the path of a request's target, and the authority if it is in absolute form."""
    authority = None
    if not raw.startswith(b"/") and raw.lower().startswith(_absolute):
        named, slash, rest = raw.partition(b"://")[2].partition(b"/")
        authority, raw = named.decode("latin-1"), slash + rest or b"/"
    if b"%" in raw:
        raw = unquote_to_bytes(raw)
    if raw.startswith(b"//"):
        # As the application's router reads it; whoever looks at the path must see the same.
        raw = b"/" + raw.lstrip(b"/")
    return raw.decode("latin-1"), authority


def _name(name: bytes) -> str:
    key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
    if len(_names) < _MAX_NAMES and len(name) <= _LONGEST_NAME:
        _names[name] = key
    return key


def _nothing() -> None:
    """Close what needs no closing."""
