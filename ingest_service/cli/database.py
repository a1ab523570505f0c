"""The commands for PostgreSQL: the schema, and the processes that send batches."""

import argparse
import sys

from ingest_service import app, logs
from ingest_service.errors import SettingsError
from ingest_service.settings import DATABASE, Settings


def add_commands(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", settings: Settings
) -> None:
    """Add them to the others."""
    parser = commands.add_parser("migrate", help="bring a PostgreSQL database up to date")
    parser.add_argument("--check", action="store_true", help="only tell whether it is")
    parser.set_defaults(run=lambda options: migrate(settings, check=options.check))
    parser = commands.add_parser("work", help="send batches, with PostgreSQL; any number of these")
    parser.add_argument("--threads", type=int, default=4, help="batches at a time (default: 4)")
    parser.set_defaults(run=lambda options: work(settings, options.threads))


def migrate(settings: Settings, *, check: bool) -> str:
    """Bring the schema up to date, or tell whether it is; return the answer."""
    return app.migrate(settings, check=check)


def work(settings: Settings, threads: int) -> str:
    """Send batches until SIGTERM or SIGINT; return the last word.

    Raise `SettingsError` if it ended by itself: a supervisor starts it again.
    """
    logs.configure(settings.log_level)
    process = app.worker_process(settings, threads)
    sys.stdout.write(process.greeting + "\n")
    sys.stdout.flush()
    if not process.run():
        raise SettingsError("The worker has lost its database; start it again.")
    return "Stopped; the batches under way have ended."


def refuse_database(journal: str) -> None:
    """Name what to use instead of commands for files where the journal is a database."""
    if journal.startswith(DATABASE):
        raise SettingsError(
            "INGEST_JOURNAL is a database, not a file: use pg_dump and pg_restore for backups, "
            "pg_amcheck to look for damage, and `migrate --check` for the schema."
        )
