"""The command line of an operator: `python -m ingest_service`."""

import argparse
import os
import sys

from ingest_service.errors import IngestServiceError
from ingest_service.journals.sqlite import back_up, verify
from ingest_service.settings import SERVER_JOURNAL, Settings


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    try:
        settings = Settings.from_env(os.environ, journal=SERVER_JOURNAL)
        options = _parser(settings.journal).parse_args(arguments)
        sys.stdout.write(options.run(options) + "\n")
    except IngestServiceError as error:
        sys.stderr.write(f"ingest_service: {error}\n")
        return 1
    return 0


def _parser(journal: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ingest_service", description=__doc__)
    parser.add_argument(
        "--journal", default=journal, help="the journal's file (default: %(default)s)"
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    backup = commands.add_parser("backup", help="copy the journal, also while the service runs")
    backup.add_argument("target", help="the file to write; it must not exist")
    backup.set_defaults(run=_backup)
    check = commands.add_parser("check", help="look for damage in the journal, also while it runs")
    check.set_defaults(run=_check)
    return parser


def _backup(options: argparse.Namespace) -> str:
    back_up(options.journal, options.target)
    return f"{options.target}: written; put it in the journal's place to go back to it."


def _check(options: argparse.Namespace) -> str:
    ingestions, unfinished = verify(options.journal)
    return f"{options.journal}: sound; {ingestions} ingestions, {unfinished} of them unfinished."
