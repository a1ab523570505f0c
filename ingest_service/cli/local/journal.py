"""`ingest-service backup`, `check` and `restore`."""

import functools
import os
from collections.abc import Callable
from typing import Any

import click

from ingest_service.cli.local.failing import answered_by, told
from ingest_service.cli.output import plural, say
from ingest_service.cli.remote.asking import Command
from ingest_service.errors import JournalDamaged, SettingsError
from ingest_service.settings import DATABASE, IN_MEMORY, SERVER_JOURNAL, Settings

_INSTEAD = (
    "INGEST_JOURNAL is a database, not a file: use pg_dump and pg_restore for backups, "
    "pg_amcheck to look for damage, and `migrate --check` for the schema."
)


def _of_journal(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the file of the journal as `journal`."""

    @click.option("--journal", metavar="FILE", help="By default INGEST_JOURNAL.")
    @functools.wraps(function)
    @told
    def wrapped(journal: str | None, **options: Any) -> None:
        journal = journal or Settings.from_env(os.environ, journal=SERVER_JOURNAL).journal
        if journal == IN_MEMORY:
            raise SettingsError("INGEST_JOURNAL=memory is no file; name one with --journal.")
        if journal.startswith(DATABASE):
            raise SettingsError(_INSTEAD)
        function(journal, **options)

    return wrapped


@click.command(
    cls=Command,
    examples=(
        "ingest-service backup copy.sqlite3",
        "ingest-service backup --journal ingest.sqlite3 copy.sqlite3",
    ),
)
@click.argument("target")
@_of_journal
def backup(journal: str, *, target: str) -> None:
    """Copy the journal to TARGET, which must not exist; also while the service runs."""
    from ingest_service.engines.embedded.journals import files

    files.back_up(journal, target)
    say(f"{target}: written; the command `restore` goes back to it.")


@click.command(
    cls=Command,
    examples=("ingest-service check", "ingest-service check --journal copy.sqlite3"),
)
@_of_journal
def check(journal: str) -> None:
    """Look for damage in the journal, also while the service runs."""
    from ingest_service.engines.embedded.journals import files

    with answered_by(JournalDamaged):
        ingestions, unfinished = files.verify(journal)
    say(f"{journal}: sound; {plural(ingestions, 'ingestion')}, {unfinished} of them unfinished.")


@click.command(
    cls=Command,
    examples=(
        "ingest-service restore copy.sqlite3",
        "ingest-service restore --journal ingest.sqlite3 copy.sqlite3",
    ),
)
@click.argument("source")
@_of_journal
def restore(journal: str, *, source: str) -> None:
    """Go back to what `backup` wrote to SOURCE; the service must not run."""
    from ingest_service.engines.embedded.journals import files

    files.restore(journal, source)
    say(f"{journal}: restored from {source}.")
