"""The commands for PostgreSQL: the schema, and the processes that send batches."""

import sys

from ingest_service import app, logs
from ingest_service.errors import SettingsError
from ingest_service.settings import DATABASE, Settings


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
