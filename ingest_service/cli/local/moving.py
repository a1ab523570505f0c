"""`ingest-service export` and `import`: everything in a journal, to another one."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import click

from ingest_service.cli.local.failing import told
from ingest_service.cli.output import plural, say
from ingest_service.cli.remote.asking import Command
from ingest_service.engines.transfer.lines import Reader, Summary
from ingest_service.errors import JournalUnusable, SettingsError
from ingest_service.settings import IN_MEMORY, SERVER_JOURNAL, Settings

_STREAM = "-"


def _of_journal(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the settings, with the journal that was named."""

    @click.option(
        "--journal", metavar="FILE", help="Or postgresql://...; by default INGEST_JOURNAL."
    )
    @functools.wraps(function)
    @told
    def wrapped(journal: str | None, **options: Any) -> None:
        settings = Settings.from_env(os.environ, journal=SERVER_JOURNAL)
        settings = replace(settings, journal=journal or settings.journal)
        if settings.journal == IN_MEMORY:
            raise SettingsError("INGEST_JOURNAL=memory is no file; name one with --journal.")
        function(settings, **options)

    return wrapped


@click.command(
    name="export",
    cls=Command,
    examples=(
        "ingest-service export everything.ndjson",
        "ingest-service export --journal ingest.sqlite3 -",
    ),
)
@click.argument("file")
@_of_journal
def export(settings: Settings, *, file: str) -> None:
    """Write everything in the journal to FILE, which must not exist; `-` is the output.

    Also while the service runs: it is what was there at one moment.
    """
    from ingest_service import app

    with _writing(file) as stream:
        summary = app.export_journal(settings, stream)
    # The output may be what was exported.
    say(f"{_shown(file, 'the output')}: {_told(summary)}", err=file == _STREAM)


@click.command(
    name="import",
    cls=Command,
    examples=(
        "ingest-service import --journal new.sqlite3 everything.ndjson",
        "ingest-service import --journal postgresql://ingest@127.0.0.1/ingest everything.ndjson",
    ),
)
@click.argument("file")
@_of_journal
def import_(settings: Settings, *, file: str) -> None:
    """Fill an empty journal with what `export` wrote to FILE; `-` is the input.

    The service must not run. Everything is imported, or nothing.
    """
    from ingest_service import app

    with _reading(file) as stream:
        summary = app.import_journal(settings, Reader(stream, _shown(file, "the input")))
    say(f"{_shown(file, 'the input')}: {_told(summary)}")


def _told(summary: Summary) -> str:
    counts = summary.counts
    names = ("ingestion", "item", "start", "mark")
    parts = [plural(counts.get(f"{name}s", 0), name) for name in names]
    return f"{', '.join(parts)}; sha256 {summary.sha256}"


def _shown(file: str, stream: str) -> str:
    return stream if file == _STREAM else file


@contextmanager
def _writing(file: str) -> Iterator[IO[bytes]]:
    """Give what writes to a new file for its owner's eyes only, or to the output."""
    from ingest_service.engines.embedded.journals.files import sync

    if file == _STREAM:
        if sys.stdout is None:
            raise click.UsageError("There is no standard output; name a file.")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(file, flags, 0o600), "wb") as stream:
            try:
                yield stream
            except BaseException:
                Path(file).unlink(missing_ok=True)
                raise
        sync(Path(file))
    except FileExistsError as error:
        raise JournalUnusable(f"{file}: exists already; choose another name.") from error
    except OSError as error:
        raise JournalUnusable(f"{file}: cannot be written ({error.strerror}).") from error


@contextmanager
def _reading(file: str) -> Iterator[IO[bytes]]:
    if file == _STREAM:
        if sys.stdin is None:
            raise click.UsageError("There is no standard input; name a file.")
        yield sys.stdin.buffer
        return
    try:
        stream = open(file, "rb")  # noqa: SIM115 - what fails here is not what fails inside
    except OSError as error:
        raise JournalUnusable(f"{file}: cannot be read ({error.strerror}).") from error
    with stream:
        yield stream
