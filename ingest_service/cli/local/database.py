"""`ingest-service migrate` and `work`: the schema, and the processes that send batches."""

import os
import sys

import click

from ingest_service import logs
from ingest_service.cli.local.failing import answered_by, told
from ingest_service.cli.output import say
from ingest_service.cli.remote.asking import Command
from ingest_service.errors import JournalOutdated, JournalUnreachable
from ingest_service.settings import SERVER_JOURNAL, Settings


@click.command(cls=Command, examples=("ingest-service migrate", "ingest-service migrate --check"))
@click.option("--check", is_flag=True, help="Only tell whether it is up to date.")
@told
def migrate(*, check: bool) -> None:
    """Bring the database that INGEST_JOURNAL names up to date; safe to run by all at once."""
    from ingest_service import app

    with answered_by(JournalOutdated):
        say(app.migrate(_settings(), check=check))


@click.command(cls=Command, examples=("ingest-service work", "ingest-service work --threads 8"))
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    default=4,
    show_default=True,
    help="Batches at a time in this process.",
)
@told
def work(*, threads: int) -> None:
    """Send batches until Ctrl-C or SIGTERM; those under way end.

    A supervisor has to start it again whenever it ends, as it does when the database is lost.
    """
    from ingest_service import app

    settings = _settings()
    logs.configure(settings.log_level)
    process = app.worker_process(settings, threads)
    say(process.greeting)
    sys.stdout.flush()
    if not process.run():
        raise JournalUnreachable("The worker has lost its database; start it again.")
    say("Stopped; the batches under way have ended.")


def _settings() -> Settings:
    return Settings.from_env(os.environ, journal=SERVER_JOURNAL)
