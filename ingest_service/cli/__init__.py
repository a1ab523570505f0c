"""The command line of an operator: `python -m ingest_service`."""

import argparse
import os
import sys

from ingest_service.cli import keys
from ingest_service.demo_upstream import DemoBehaviour, DemoUpstream, fresh_seed
from ingest_service.engines.embedded.journals.files import back_up, restore, verify
from ingest_service.errors import IngestServiceError, SettingsError
from ingest_service.settings import IN_MEMORY, SERVER_JOURNAL, Settings


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    try:
        settings = Settings.from_env(os.environ, journal=SERVER_JOURNAL)
        options = _parser(settings).parse_args(arguments)
        sys.stdout.write(options.run(options) + "\n")
    except IngestServiceError as error:
        sys.stderr.write(f"ingest_service: {error}\n")
        return 1
    return 0


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ingest_service", description=__doc__)
    parser.add_argument(
        "--journal", default=settings.journal, help="the journal's file (default: %(default)s)"
    )
    parser.set_defaults(keys_file=settings.api_keys_file)
    commands = parser.add_subparsers(required=True, metavar="command")
    backup = commands.add_parser("backup", help="copy the journal, also while the service runs")
    backup.add_argument("target", help="the file to write; it must not exist")
    backup.set_defaults(run=_backup)
    restore_ = commands.add_parser("restore", help="go back to a backup; the service must not run")
    restore_.add_argument("source", help="the file that `backup` wrote")
    restore_.set_defaults(run=_restore)
    check = commands.add_parser("check", help="look for damage in the journal, also while it runs")
    check.set_defaults(run=_check)
    keys.add_commands(commands)
    demo = commands.add_parser(
        "demo-upstream",
        help="run an API to try things with: slow, unreliable, and strict about its rate",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument("--port", type=int, default=9000, help="0 takes a free one")
    demo.add_argument("--latency", type=float, default=0.2, help="seconds an answer takes")
    demo.add_argument(
        "--failures", type=float, default=0.1, help="share of attempts that fail for now (503)"
    )
    demo.add_argument(
        "--reject", type=float, default=0.0, help="share of items that fail for good (404, 422)"
    )
    demo.add_argument(
        "--interval", type=float, default=5.0, help="seconds between batch starts it allows (429)"
    )
    demo.add_argument("--seed", type=int, help="makes the failures repeatable")
    demo.set_defaults(run=_demo_upstream)
    return parser


def _backup(options: argparse.Namespace) -> str:
    back_up(_file(options), options.target)
    return f"{options.target}: written; the command `restore` goes back to it."


def _restore(options: argparse.Namespace) -> str:
    restore(_file(options), options.source)
    return f"{options.journal}: restored from {options.source}."


def _file(options: argparse.Namespace) -> str:
    journal: str = options.journal
    if journal == IN_MEMORY:
        raise SettingsError("INGEST_JOURNAL=memory is no file; name one with --journal.")
    return journal


def _check(options: argparse.Namespace) -> str:
    ingestions, unfinished = verify(_file(options))
    return f"{options.journal}: sound; {ingestions} ingestions, {unfinished} of them unfinished."


def _demo_upstream(options: argparse.Namespace) -> str:
    behaviour = DemoBehaviour(
        latency=options.latency,
        failures=options.failures,
        rejects=options.reject,
        interval=options.interval,
        seed=fresh_seed() if options.seed is None else options.seed,
    )
    try:
        upstream = DemoUpstream(behaviour, options.port)
    except OSError as error:
        reason = error.strerror or error
        raise SettingsError(f"Port {options.port} cannot be listened on: {reason}.") from error
    address = upstream.address
    sys.stdout.write(
        f"Listening on {address}; INGEST_UPSTREAM='{address}/items/{{id}}' "
        f"or INGEST_UPSTREAM='batch+{address}/batch'; {address}/stats tells what came.\n"
    )
    sys.stdout.flush()
    try:
        upstream.serve()
    except KeyboardInterrupt:
        upstream.stop()
    return f"Stopped; seed {behaviour.seed}, {upstream.stats()}"
