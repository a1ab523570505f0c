"""The command `ingest-service`; `python -m ingest_service` is the same.

The commands in `remote` know the client and nothing else of ours; those in `local` look at the
journal, or run something. Each is imported when it is called, and what it runs of the server
only when it runs, so that help comes at once.
"""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from keyword import iskeyword
from typing import Any

import click

from ingest_service.cli.output import forget_unwritten
from ingest_service.version import VERSION

#: Where each command is, and what it does; in the order of the help.
_REMOTE = {
    "submit": ("submit", "Submit ids or mappings."),
    "status": ("following", "Look at ingestions once."),
    "watch": ("following", "Follow ingestions to their end."),
    "results": ("results", "Fetch what became of the items."),
    "ls": ("looking", "List ingestions, newest first."),
    "queue": ("looking", "Look at the queue once."),
    "top": ("looking", "Look at the queue as it changes."),
    "when": ("looking", "Tell when a request would be finished, without sending it."),
    "proof": ("looking", "Show that the rate was kept."),
    "cancel": ("control", "Cancel what has not been started."),
    "move": ("control", "Give what is left another priority."),
    "retry": ("control", "Send what has failed once more."),
    "pause": ("control", "Start nothing more."),
    "resume": ("control", "Go on after a pause."),
    "interval": ("control", "Change the seconds between two batch starts."),
}
_LOCAL = {
    "serve": ("serve", "Run the service."),
    "keys": ("keys", "Make, list, replace and revoke API keys."),
    "backup": ("journal", "Copy the journal, also while the service runs."),
    "check": ("journal", "Look for damage in the journal, also while the service runs."),
    "restore": ("journal", "Go back to a backup; the service must not run."),
    "export": ("moving", "Write everything in a journal to a file, to move it."),
    "import": ("moving", "Fill an empty journal with what was exported."),
    "migrate": ("database", "Bring a PostgreSQL database up to date."),
    "work": ("database", "Send batches, with PostgreSQL; any number of these."),
    "demo-upstream": ("demo_upstream", "Run an API to try things with."),
}


class _NobodyReads(click.ClickException):
    """Whoever has read the output has seen enough."""

    #: As of a program that SIGPIPE has ended, which is what scripts know.
    exit_code = 128 + 13

    def show(self, file: Any = None) -> None:
        """Say nothing, and let nothing be said about what could not be written."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            os.dup2(nowhere, descriptor)


class _NotWritten(click.ClickException):
    """What was to be printed has no place; the text says why."""

    #: As of all that cannot be written, see docs/command.md.
    exit_code = 2


class _Interrupted(click.ClickException):
    """Somebody has pressed Ctrl-C; what a command has to say of it, it has said."""

    #: As of a program that SIGINT has ended.
    exit_code = 128 + 2

    def show(self, file: Any = None) -> None:
        """End the line on which the terminal has shown it."""
        click.echo(err=True)


class _LazyGroup(click.Group):
    """Commands that are imported when they are called."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Read the arguments; help is printed on the way."""
        with _ending_as_known():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was called."""
        with _ending_as_known():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_REMOTE, *_LOCAL]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for package, commands in (("remote", _REMOTE), ("local", _LOCAL)):
            if cmd_name in commands:
                module = import_module(f"{__name__}.{package}.{commands[cmd_name][0]}")
                command: click.Command = getattr(module, _name(cmd_name))
                return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in (("Of a service", _REMOTE), ("On this machine", _LOCAL)):
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()])


@contextmanager
def _ending_as_known() -> Iterator[None]:
    """Let a command end with the status that docs/command.md says; click's are those of failures.

    Commands answer what else can go wrong with the output themselves; help cannot.
    """
    try:
        yield
    except BrokenPipeError as error:
        raise _NobodyReads("") from error
    except KeyboardInterrupt as error:
        raise _Interrupted("") from error
    except click.Abort as error:
        # At a question: of a no, and of no answer at all, click makes the same.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise _Interrupted("") from error
        raise
    except OSError as error:
        raise _NotWritten(f"The output cannot be written: {error.strerror}.") from error


def _name(command: str) -> str:
    """Return what a command is called in its module."""
    return f"{command}_" if iskeyword(command) else command.replace("-", "_")


@click.group(
    cls=_LazyGroup,
    epilog="""\b
Examples:
  ingest-service submit 1 2 3 --priority HIGH --wait
  ingest-service submit --help""",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(VERSION, prog_name="ingest-service")
@click.option("--journal", metavar="FILE", hidden=True, help="The same as that of the command.")
@click.pass_context
def cli(context: click.Context, journal: str | None) -> None:
    """Queue work in front of one slow, rate-limited API.

    Commands of a service ask the one at --url or INGEST_URL (http://127.0.0.1:8000), with the
    key in --key-file or INGEST_KEY if it wants one.

    Exit status: 0 done, 1 some items failed, 2 usage, 3 not reachable, 4 refused, 5 timed out.
    """
    if journal is not None:
        context.default_map = {name: {"journal": journal} for name in _LOCAL}


def main() -> None:
    """Run the command that this process was started with, and end the process."""
    if sys.stdout is None:
        # It was closed: what is printed has to fail, and not to get lost in silence. This takes the
        # free descriptor too, which would be that of the next file or connection.
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    try:
        cli.main(prog_name="ingest-service")
    finally:
        forget_unwritten()
        # The process ends: to look through everything for garbage takes longer than most commands.
        gc.freeze()
