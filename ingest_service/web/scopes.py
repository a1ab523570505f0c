"""Which scope a route asks for, said where the route is declared."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from flask import Flask
from werkzeug.exceptions import HTTPException

from ingest_service.keys.scope import Scope

#: Where a request's environment has the key it was let in with.
KEY = "ingest.key"

#: Longest path that is remembered.
_LONGEST = 100

View = TypeVar("View", bound=Callable[..., Any])


def needs(scope: Scope) -> Callable[[View], View]:
    """Declare what a view asks of a key; `operation` does it for those it documents."""

    def attach(view: View) -> View:
        view.__scope__ = scope  # type: ignore[attr-defined]
        return view

    return attach


def finder(app: Flask) -> Callable[[str, str], Scope | None]:
    """Return what tells which scope a request (method, path of its environment) asks for.

    None stands for a request that no view answers. It is matched as it will be for the view,
    so that both find the same.
    """
    routes = app.url_map.bind("localhost")

    def find(method: str, path: str) -> Scope | None:
        try:
            endpoint, _ = routes.match(path.encode("latin-1").decode(errors="replace"), method)
        except HTTPException:
            return None
        return scope_of(app, endpoint)

    remembered = lru_cache(1_000)(find)
    # Strangers cannot make this grow.
    return lambda method, path: (remembered if len(path) <= _LONGEST else find)(method, path)


def scope_of(app: Flask, endpoint: str) -> Scope | None:
    """Return what the view behind `endpoint` asks for, None if it has not said so."""
    return getattr(app.view_functions[endpoint], "__scope__", None)
