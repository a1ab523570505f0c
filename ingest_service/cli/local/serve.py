"""`ingest-service serve`."""

import os
import sys

import click

from ingest_service.cli.local.failing import told
from ingest_service.cli.remote.asking import Command
from ingest_service.errors import SettingsError
from ingest_service.settings import IN_MEMORY, SIMULATED, Settings

_CONFIGURATION = "python:ingest_service.cli.local.serve_conf"
_APPLICATION = "ingest_service.wsgi:app"


@click.command(
    cls=Command,
    examples=(
        "ingest-service serve --port 9000",
        "ingest-service serve --journal demo.sqlite3 --interval 1",
    ),
)
@click.option("--port", type=click.IntRange(1, 65_535), help="By default PORT, or 8000.")
@click.option("--host", help="INGEST_HOST; by default both loopback addresses.")
@click.option(
    "--journal",
    metavar="FILE",
    help="INGEST_JOURNAL; what keeps accepted work: a file, memory, or postgresql://...",
)
@click.option("--upstream", metavar="URL", help="INGEST_UPSTREAM; the external API.")
@click.option("--interval", metavar="SECONDS", help="INGEST_INTERVAL; between batch starts.")
@told
def serve(port: int | None, **settings: str | None) -> None:
    """Run the service, with gunicorn, until Ctrl-C.

    Everything else is set by environment variables, INGEST_...
    """
    if port is not None:
        os.environ["PORT"] = str(port)
    for name, value in settings.items():
        if value is not None:
            os.environ[f"INGEST_{name.upper()}"] = value
    _check(Settings.from_env(os.environ))
    command = [sys.executable, "-m", "gunicorn", "-c", _CONFIGURATION, _APPLICATION]
    try:
        os.execv(sys.executable, command)  # noqa: S606 # nosec B606
    except OSError as error:
        raise SettingsError(f"gunicorn cannot be started: {error.strerror}.") from error


def _check(settings: Settings) -> None:
    """Look at what gunicorn will look at, before it has said a word; raise `SettingsError`."""
    from ingest_service.front import listeners

    port = listeners.port(os.environ)
    if "GUNICORN_CMD_ARGS" not in os.environ:
        host = "127.0.0.1" if settings.host == "localhost" else settings.host.strip("[]")
        listeners.check([(host, int(port))], settings, os.environ)


def announcement(settings: Settings, address: str) -> list[str]:
    """Return what whoever has started a service wants to know; it listens on `address`."""
    kept = f"in {settings.journal}, over restarts"
    if settings.journal == IN_MEMORY:
        kept = "in memory, until it ends"
    api = settings.upstream
    if api == SIMULATED:
        api = "simulated; --upstream names a real one"
    return [
        f"Listens on    {address}",
        f"Explained at  {address}/docs",
        f"Watched at    {address}/dashboard",
        f"Work is kept  {kept}",
        f"The API is    {api}",
        f"Its pace      one batch every {settings.interval:g} s",
    ]
