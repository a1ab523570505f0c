"""Running the command in this process."""

import re
from collections.abc import Callable

from click.testing import CliRunner, Result

from ingest_service.cli import cli

Run = Callable[..., Result]
ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def run_at(url: str) -> Run:
    """Return what runs the command against the service at `url`."""

    def run(*arguments: str, text: str | bytes | None = None) -> Result:
        return CliRunner().invoke(
            cli, list(arguments), input=text, env={"INGEST_URL": url}, catch_exceptions=True
        )

    return run


def ids_in(text: str) -> list[str]:
    """Return the ingestions that a text names, each once."""
    return list(dict.fromkeys(ID.findall(text)))
