"""What a request's head alone decides, in memory: who is let in, and what may take long.

A server calls these before it reads the body; where there is none, `init_app` sees to it.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import flask
from flask import Flask, Response
from werkzeug.middleware.proxy_fix import ProxyFix

from ingest_service.keys.key import Key
from ingest_service.keys.keyring import Keyring
from ingest_service.keys.rates import Rate
from ingest_service.keys.scope import Scope
from ingest_service.service import Service
from ingest_service.settings import Settings
from ingest_service.web import cors, door
from ingest_service.web.answer_headers import complete_head, request_id_of
from ingest_service.web.http_counts import NO_ROUTE, Answered, HttpCounts
from ingest_service.web.media_type import ADMITTED, reason_not_json
from ingest_service.web.problems import problem
from ingest_service.web.scopes import KEY, finder

Environ = dict[str, Any]

#: One text, whatever is wrong with a key: nobody learns which it was.
_UNAUTHORIZED = "Send a key that is in force, in the header `Authorization: Bearer <key>`."

_SUBMIT = ("/ingest", "/ingest/")
_ALWAYS_QUICK = frozenset(("/", "/health/live", "/health/live/"))
_HEALTH = ("/health", "/health/")
_RATE = "ingest.rate"
#: Most characters of what is remembered about a request.
_LONGEST = 300
_STATUS = re.compile(r"/status/([^/]*)/?")


def init_app(app: Flask, settings: Settings, keyring: Keyring | None) -> None:
    """Let in, or not, before any view."""
    # Names can only be forged for a browser, which sends no key.
    any_name = keyring is not None or settings.insecure == "yes"
    allowed_hosts = None if any_name and not settings.allowed_hosts else settings.allowed_hosts

    def judge(
        method: str, path: str, scheme: str, host: str, origin: str | None, site: str
    ) -> str | None:
        headers = {"Host": host, "Sec-Fetch-Site": site}
        if origin is not None:
            headers["Origin"] = origin
        return door.refusal(method, path, scheme, headers, allowed_hosts, settings.cors_origins)

    remembered = lru_cache(1_000)(judge)

    def strange(*fields: str | None) -> str | None:
        # Strangers cannot make this grow.
        short = sum(map(len, filter(None, fields))) <= _LONGEST
        return (remembered if short else judge)(*fields)  # type: ignore[arg-type]

    app.extensions["strange"] = strange
    app.extensions["keyring"] = keyring
    app.extensions["scope"] = finder(app)
    _trust_proxies(app, settings.trusted_proxies)
    app.before_request(_admit_request)
    if keyring is not None:
        app.after_request(lambda answer: _tell_rate(answer, flask.request.environ))
    cors.init_app(app, settings.cors_origins)


def admit(app: Flask, environ: Environ) -> Response | None:
    """Return the answer to a request that is refused whatever its body is; None to let it in.

    `environ` is as the server has made it; it gets what proxies say, if any is trusted.
    """
    learn = app.extensions["proxies"]
    if learn is not None:
        learn(environ)
    refusal = _judge(app, environ)
    if refusal is None:
        return None
    # No view has a hand in it, and it takes no time.
    counts: HttpCounts = app.extensions["http_counts"]
    counts.count(Answered(NO_ROUTE, environ["REQUEST_METHOD"], refusal.status_code), 0.0)
    return complete(app, environ, refusal)


def complete(app: Flask, environ: Environ, answer: Response) -> Response:
    """Give an answer that no view has made what all have; let the page that asked read it."""
    complete_head(answer, request_id_of(environ))
    _tell_rate(answer, environ)
    allowing = app.extensions["cors"]
    return answer if allowing is None else allowing.finish(answer, environ)


def _judge(app: Flask, environ: Environ) -> Response | None:
    host = environ.get("HTTP_HOST")
    if host is None and environ.get("SERVER_PROTOCOL") == "HTTP/1.1":
        return problem("malformed-request", "The request has no Host header.")
    if environ.get("HTTP_TRANSFER_ENCODING", "chunked").strip().lower() != "chunked":
        return problem("malformed-request", "The only transfer coding that is read is chunked.")
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    strange: str | None = app.extensions["strange"](
        method,
        "/health" if f"{path}/".startswith("/health/") else "/",
        environ["wsgi.url_scheme"],
        host or "",
        environ.get("HTTP_ORIGIN"),
        environ.get("HTTP_SEC_FETCH_SITE", ""),
    )
    if strange is not None:
        return problem("forbidden", strange)
    if method == "OPTIONS":
        allowing = app.extensions["cors"]
        return None if allowing is None else allowing.preflight(environ)
    keyring = app.extensions["keyring"]
    if keyring is not None:
        refusal = _check_key(app, keyring, environ)
        if refusal is not None:
            return refusal
    if method == "POST" and path in _SUBMIT:
        reason = reason_not_json(environ)
        if reason is not None:
            return problem("unsupported-media-type", reason)
    length = environ.get("CONTENT_LENGTH", "")
    limit: int = app.config["BODY_LIMIT"]
    if len(length) > 19 or (length.isdecimal() and int(length) > limit):
        return problem("payload-too-large", f"The body is larger than {limit} bytes.")
    return None


def _check_key(app: Flask, keyring: Keyring, environ: Environ) -> Response | None:
    # None: only who has a key is told that there is nothing.
    scope: Scope | None = app.extensions["scope"](environ["REQUEST_METHOD"], environ["PATH_INFO"])
    if scope is Scope.OPEN:
        return None
    key = keyring.admit(environ.get("HTTP_AUTHORIZATION", ""))
    if key is None:
        refusal = problem("unauthorized", _UNAUTHORIZED)
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal
    if scope is not None and not key.may(scope):
        return problem(
            "forbidden", f"This asks for the scope `{scope}`, which this key does not have."
        )
    environ[KEY] = key
    return count(environ, keyring, key)


def count(environ: Environ, keyring: Keyring, key: Key) -> Response | None:
    """Count a request that `key` lets in; return the answer to one that is too many."""
    rate = keyring.rates.count(key)
    if rate is None:
        return None
    environ[_RATE] = rate
    return None if rate.allowed else _too_often(rate)


def _too_often(rate: Rate) -> Response:
    detail = f"This key may ask {rate.quota} times a minute; again in {rate.more_in} s."
    refusal = problem("too-many-requests", detail)
    refusal.headers["Retry-After"] = str(rate.more_in)
    return refusal


def _tell_rate(answer: Response, environ: Environ) -> Response:
    rate: Rate | None = environ.get(_RATE)
    if rate is not None:
        answer.headers.update(rate.headers)
    return answer


def _trust_proxies(app: Flask, hops: int) -> None:
    """Believe what the last `hops` proxies say of a request; without any, nothing."""
    app.extensions["proxies"] = None
    if not hops:
        return
    plain = app.wsgi_app

    def nothing(*_: Any) -> Iterable[bytes]:
        return ()

    told = {f"x_{field}": hops for field in ("for", "proto", "host", "port")}
    learning, fixed = ProxyFix(nothing, **told), ProxyFix(plain, **told)

    def wsgi_app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        # What was let in before has been told already.
        return (plain if ADMITTED in environ else fixed)(environ, start_response)

    app.extensions["proxies"] = lambda environ: learning(environ, _start_nothing)
    app.wsgi_app = wsgi_app  # type: ignore[method-assign]


def _start_nothing(*_: Any) -> Callable[[bytes], object]:
    """Begin no answer: the middleware is only asked what the request is."""
    raise AssertionError


def is_quick(app: Flask, environ: Environ) -> bool:
    """Tell whether a request with a small body is answered in well below a millisecond.

    True only for what needs no disk and no database, and does not grow with the queue.
    """
    path: str = environ["PATH_INFO"]
    if path in _ALWAYS_QUICK:
        return True
    service: Service = app.extensions["ingest_service"]
    if path in _SUBMIT:
        # A key is looked up on the disk; a dry run looks at the whole queue.
        plain = not environ["QUERY_STRING"] and "HTTP_IDEMPOTENCY_KEY" not in environ
        return plain and service.queries.is_at_hand()
    if path in _HEALTH:
        return service.queries.is_at_hand()
    status = _STATUS.fullmatch(path)
    if status is None or environ["REQUEST_METHOD"] not in door.SAFE:
        return False
    # What has finished some time ago is on the disk alone.
    return service.queries.is_at_hand(status[1].lower())


def answer_for(app: Flask, environ: Environ, error: BaseException) -> Response:
    """Return what the application answers when a view raises `error`."""
    if not isinstance(error, Exception):
        raise error
    with app.request_context(environ):
        app.preprocess_request()
        return app.process_response(app.make_response(app.handle_user_exception(error)))


def _admit_request() -> Response | None:
    environ = flask.request.environ
    if ADMITTED in environ:
        return None
    return _judge(flask.current_app, environ)
