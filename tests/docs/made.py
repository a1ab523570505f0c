"""The parts of the documentation that are made from the code.

Each stands between two marks, and `make docs` writes it anew.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

import click
from flask import Flask

from ingest_service.app import build, create_app
from ingest_service.cli import _LOCAL, _REMOTE, cli
from ingest_service.keys.file_format import GRANTED
from ingest_service.settings import PREFIX, SERVER_JOURNAL, Settings
from ingest_service.web.problems import PROBLEMS

_MARKED = re.compile(r"(<!-- made by `make docs`: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)
_UNIT = re.compile(r"number of (seconds|bytes(?: a second)?)")
_DAY = 86_400


def settings() -> str:
    """Return the table of the settings, with the defaults of the server."""
    rows = []
    for knob in fields(Settings):
        default: Any = SERVER_JOURNAL if knob.name == "journal" else knob.default
        allowed = knob.metadata["kind"].allowed
        unit = _UNIT.search(allowed)
        rows.append(
            [
                f"`{PREFIX}{knob.name.upper()}`",
                f"{default / _DAY:g}d" if knob.name == "retention" else _written(default),
                unit[1] if unit else "",
                allowed,
                knob.metadata["about"],
            ]
        )
    return _table(["name", "default", "unit", "allowed", "meaning"], rows)


def resting_app() -> Flask:
    """Return the application, without the thread that would send batches."""
    return create_app(Settings(), build(Settings()))


def routes() -> str:
    """Return the tables of the routes, one a subject of the OpenAPI document."""
    document = _openapi()
    operations = list(_operations(document))
    text = ""
    for tag in document["tags"]:
        rows = [
            [name, _scope(operation), operation["description"], ", ".join(_query(operation))]
            for name, operation in operations
            if tag["name"] in operation["tags"]
        ]
        if rows:
            text += f"\n### {tag['name']}\n\n{tag['description']}\n\n"
            text += _table(["route", "scope", "what it does", "query"], rows)
    return f"{text}\n"


def scopes() -> str:
    """Return the table of the scopes, with the routes that each opens."""
    operations = list(_operations(_openapi()))
    rows = [
        [f"`{word}`", ", ".join(name for name, each in operations if _scope(each) == f"`{word}`")]
        for word in GRANTED
    ]
    return _table(["scope", "what it opens"], rows)


def problems() -> str:
    """Return the table of what an error can be."""
    rows = [
        [f"`{kind.slug}`", str(kind.status), f"{kind.title}.", kind.explanation]
        for kind in sorted(PROBLEMS.values(), key=lambda kind: kind.status)
    ]
    return _table(["problem", "status", "means", "what to do"], rows)


def commands() -> str:
    """Return the tables of the commands, each with its arguments and options."""
    text = ""
    for title, names in (("Of a service", _REMOTE), ("On this machine", _LOCAL)):
        rows = [row for name in names for row in _usage(name, _command(name))]
        text += f"\n### {title}\n\n{_table(['command', 'what it does', 'options'], rows)}"
    return f"{text}\n"


MAKERS: dict[str, Callable[[], str]] = {
    "settings": settings,
    "routes": routes,
    "scopes": scopes,
    "problems": problems,
    "commands": commands,
}


def made_anew(text: str) -> str:
    """Return the page `text` with all of its marked parts as the code has them now."""
    return _MARKED.sub(lambda part: f"{part[1]}\n{MAKERS[part[2]]()}\n{part[3]}", text)


def marks(text: str) -> list[str]:
    """Return the names of the parts that a page marks."""
    return [name for _, name, _ in _MARKED.findall(text)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(' '.join(cell.split()) for cell in line)} |\n" for line in lines)


def _written(value: Any) -> str:
    if value in (None, ()):
        return "none"
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _openapi() -> dict[str, Any]:
    document: dict[str, Any] = resting_app().test_client().get("/openapi.json").get_json()
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"`{method.upper()} {path.replace('{', '<').replace('}', '>')}`", operation


def _scope(operation: Any) -> str:
    return next((f"`{key['key'][0]}`" for key in operation["security"] if key), "open")


def _query(operation: Any) -> Iterator[str]:
    for parameter in operation["parameters"]:
        if parameter["in"] == "query":
            yield f"`{parameter['name']}`"


def _command(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


def _usage(name: str, command: click.Command) -> Iterator[list[str]]:
    context = click.Context(command, info_name=name)
    words = [name, *command.collect_usage_pieces(context)]
    options = (
        f"`{parameter.opts[0]}`"
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
    )
    usage = " ".join(word for word in words if word != "[OPTIONS]").replace("|", "\\|")
    summary = (command.help or "").strip().partition("\n\n")[0]
    yield [f"`{usage}`", summary, ", ".join(options)]
    if isinstance(command, click.Group):
        for below, subcommand in command.commands.items():
            yield from _usage(f"{name} {below}", subcommand)
