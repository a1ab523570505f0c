"""The one place that says what of gunicorn's is used beyond its public interface."""

import ast
from pathlib import Path

import pytest
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn_h1c import H1CProtocol

import ingest_service.front
from ingest_service.front import names
from ingest_service.front.protocol import FrontProtocol
from ingest_service.front.worker import FrontWorker

FRONT = Path(ingest_service.front.__file__).parent
_LISTED = {
    name for names_ in (*names.METHODS.values(), *names.ATTRIBUTES.values()) for name in names_
}


def test_the_installed_gunicorn_has_all_of_them() -> None:
    assert names.missing() == []


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ASGIProtocol, "_close_transport")
    monkeypatch.setitem(names.ATTRIBUTES, ASGIProtocol, ("transport", "_unheard_of"))
    assert names.missing() == ["ASGIProtocol._close_transport", "ASGIProtocol()._unheard_of"]


def test_the_server_does_not_start_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Config:
        threads = 1

    monkeypatch.delattr(ASGIProtocol, "_close_transport")
    with pytest.raises(SystemExit, match=r"lacks ASGIProtocol\._close_transport"):
        FrontWorker.check_config(Config(), None)


def test_every_private_name_that_is_used_is_listed() -> None:
    """In the two modules that know gunicorn, on objects that are gunicorn's."""
    used = set()
    for module in ("protocol.py", "worker.py"):
        tree = ast.parse((FRONT / module).read_text())
        used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        used |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    inherited = {name for owner in names.METHODS for name in dir(owner)} | _LISTED
    private = {name for name in used & inherited if name.startswith("_") and name[1] != "_"}
    assert private <= _LISTED


def test_the_seam_is_small() -> None:
    lines = (FRONT / "protocol.py").read_text().splitlines()
    assert len(lines) <= 120


def test_the_parser_is_the_fast_one() -> None:
    """A subclass that asks first would get the slow one without a word."""
    assert FrontProtocol._h1c_protocol_class is H1CProtocol
    assert ASGIProtocol._h1c_protocol_class is H1CProtocol
