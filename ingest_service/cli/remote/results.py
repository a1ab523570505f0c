"""`ingest-service results`: from the service to the disk, as it comes."""

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import click

from ingest_service.cli.output import is_terminal, plural, say
from ingest_service.cli.remote.asking import Command, remote
from ingest_service.client import IngestClient, IngestError, Refused

_FORMS = ("ndjson", "csv", "json")
#: How often a stream that breaks is begun anew.
_ATTEMPTS = 3


@click.command(
    cls=Command,
    examples=(
        "ingest-service results 0056f4ac-779d-41c1-8ebf-ae438b976afa -o out.csv",
        "ingest-service results 0056f4ac-779d-41c1-8ebf-ae438b976afa --failed",
    ),
)
@click.argument("ingestion_id", metavar="ID")
@click.option("--failed", is_flag=True, help="Only items that failed.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(),
    help="Write to a file; - is standard output.",
)
@click.option(
    "--format", "form", type=click.Choice(_FORMS), help="By default what FILE is called, or ndjson."
)
@remote(patient=True)
def results(
    client: IngestClient,
    *,
    ingestion_id: str,
    failed: bool,
    output: str | None,
    form: str | None,
) -> None:
    """Fetch what became of the items, as far as it is known.

    A file is complete or not there: it has its name when everything is in it.
    """
    fetch(client, [ingestion_id], output, form, "failed" if failed else None)


def fetch(
    client: IngestClient,
    ids: Sequence[str],
    output: str | None,
    form: str | None,
    outcome: str | None,
) -> None:
    """Write the results of ingestions one after the other, to a file or to standard output."""
    if form is None:
        suffix = "" if output is None else Path(output).suffix.removeprefix(".").lower()
        form = suffix if suffix in _FORMS else "ndjson"
    if output is None or output == "-":
        if sys.stdout is None:
            raise click.UsageError("There is no standard output; -o names a file.")
        stream = sys.stdout.buffer
        for line in _document(client, ids, form, outcome):
            if is_terminal():
                say(line.decode("utf-8", "replace").rstrip("\r\n"))
            else:
                stream.write(line)
        stream.flush()
        return
    with _named(output):
        if _stays(output):
            with Path(output).open("wb") as file:
                count = _write(file, _document(client, ids, form, outcome), form)
            say(f"{output}: {plural(count, 'result')}.", err=True)
            return
        for attempt in range(1, _ATTEMPTS + 1):
            with _unfinished(output) as file, _persistent(attempt):
                count = _write(file, _document(client, ids, form, outcome), form)
                # What does not fit on the disk is noticed now at the latest.
                file.flush()
                Path(file.name).replace(output)
                break
    say(f"{output}: {plural(count, 'result')}.", err=True)


def check_output(output: str) -> None:
    """Raise `UsageError` if nothing can be written to `output`, before it is waited for."""
    with _named(output):
        if Path(output).is_dir():
            raise click.UsageError(f"{output!r} cannot be written: it is a folder.")
        if output != "-" and not _stays(output):
            with _unfinished(output):
                pass


@contextlib.contextmanager
def _named(output: str) -> Iterator[None]:
    """Tell which file cannot be written, and why."""
    try:
        yield
    except OSError as error:
        raise click.UsageError(f"{output} cannot be written: {error.strerror}.") from error


def _stays(output: str) -> bool:
    """Tell whether nothing takes the place of what is called so, as of /dev/null."""
    return Path(output).exists() and not Path(output).is_file()


@contextlib.contextmanager
def _unfinished(output: str) -> Iterator[IO[bytes]]:
    """Give a file for what is to become `output`; it is gone when that has not happened."""
    part = Path(f"{output}.part")
    try:
        with part.open("wb") as file:
            yield file
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


@contextlib.contextmanager
def _persistent(attempt: int) -> Iterator[None]:
    """Let a stream that broke be begun anew, unless that is the last attempt."""
    try:
        yield
    except IngestError as error:
        if attempt == _ATTEMPTS or isinstance(error, Refused):
            raise
        say(f"{error} Beginning anew.", err=True)


def _write(file: IO[bytes], lines: Iterable[bytes], form: str) -> int:
    """Write lines; return how many results they are."""
    count, within = 0, False
    for line in lines:
        file.write(line)
        around = not within and line.startswith((b"[\n", b"]\n", b"id,", b"mapping_id,"))
        # A CSV field may go on over several of them.
        within ^= form == "csv" and line.count(b'"') % 2 == 1
        count += not (within or around)
    return count


def _document(
    client: IngestClient, ids: Sequence[str], form: str, outcome: str | None
) -> Iterator[bytes]:
    """Yield the document of all results, line by line."""
    if form == "json":
        yield b"[\n"
    first = True
    for ingestion_id in ids:
        wanted = "ndjson" if form == "json" else form
        lines = _lines(client.results_text(ingestion_id, wanted, outcome))
        if form == "csv" and not first:
            next(lines, None)
        for line in lines:
            if form == "json" and not first:
                yield b"," + line
            else:
                yield line
            first = False
    if form == "json":
        yield b"]\n"


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what comes in whole lines; a CSV field may go on over several."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if rest:
        yield rest
