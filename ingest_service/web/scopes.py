"""Which scope a route asks for, said where the route is declared."""

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask

from ingest_service.keys.scope import Scope

#: Where a request's environment has the key it was let in with.
KEY = "ingest.key"

View = TypeVar("View", bound=Callable[..., Any])


def needs(scope: Scope) -> Callable[[View], View]:
    """Declare what a view asks of a key; `operation` does it for those it documents."""

    def attach(view: View) -> View:
        view.__scope__ = scope  # type: ignore[attr-defined]
        return view

    return attach


def scope_of(app: Flask, endpoint: str) -> Scope | None:
    """Return what the view behind `endpoint` asks for, None if it has not said so."""
    return getattr(app.view_functions[endpoint], "__scope__", None)
