"""What all commands that ask a service have in common: options, errors, exit codes, questions."""

import errno
import functools
import math
import os
import shlex
import string
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from ingest_service.cli.output import encoded, say
from ingest_service.client import (
    DEFAULT_URL,
    PRIORITIES,
    IngestClient,
    IngestError,
    Refused,
    TimedOut,
)

F = TypeVar("F", bound=Callable[..., Any])

SOME_FAILED, USAGE, UNREACHABLE, REFUSED, TIMED_OUT, INTERRUPTED = 1, 2, 3, 4, 5, 130
#: Seconds for which what is under way is tried again while nobody answers.
PATIENCE = 60.0
#: What to do about a problem, by status.
_ADVICE = {
    401: "Name the file of a key with --key-file, or set INGEST_KEY.",
    403: "Another key may be allowed to; --key-file names it.",
    404: "`ingest-service ls` lists what there is.",
    409: "`ingest-service status` tells its state.",
    422: "Take another --key for another request.",
}
#: What each unknown id is answered; another 404 is of an address that the service does not have.
_UNKNOWN_ID = "Ingestion ID not found"
#: What stands for itself wherever it is quoted.
_PLAIN = frozenset(f"{string.ascii_letters}{string.digits}/._-+,:=@% ")


class Command(click.Command):
    """A command that knows how it was called, and ends its help with examples."""

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **options: Any) -> None:
        if examples:
            options["epilog"] = "\b\nExamples:\n" + "\n".join(f"  {each}" for each in examples)
        super().__init__(*arguments, **options)
        self.examples = examples

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember the arguments, so that the line can be repeated."""
        ctx.meta["arguments"] = list(args)
        return super().parse_args(ctx, args)


class Seconds(click.FloatRange):
    """Seconds within bounds; a range of click's has room for what is no number."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it."""
        seconds: float = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{seconds} is not a number of seconds.", param, ctx)
        return seconds


class _Word(click.Choice[str]):
    """One of some words, in capitals or not."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__(words, case_sensitive=False)

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Name the words as they are written, which is not how click compares them."""
        return f"{value!r} is not one of {', '.join(map(repr, self.choices))}."


_PRIORITY = _Word(PRIORITIES)


def called() -> list[str]:
    """Return the command as it was called, word by word."""
    context = click.get_current_context()
    return ["ingest-service", str(context.info_name), *context.meta["arguments"]]


def priority_option(default: str | None = "MEDIUM") -> Callable[[F], F]:
    """Return the option `--priority`."""
    return click.option(
        "--priority",
        "-p",
        type=_PRIORITY,
        metavar="|".join(PRIORITIES),
        default=default,
        show_default=default is not None,
    )


def priority_argument(function: F) -> F:
    """Add the argument PRIORITY."""
    return click.argument("priority", type=_PRIORITY, metavar="|".join(PRIORITIES))(function)


def remote(*, patient: bool = False) -> Callable[[F], Callable[..., Any]]:
    """Give a command a client as its first argument, and answer its errors.

    A patient one tries again while nobody answers; the others say so at once.
    """

    def decorate(function: F) -> Callable[..., Any]:
        @click.option("--url", envvar="INGEST_URL", default=DEFAULT_URL, show_default=True)
        @click.option(
            "--key-file",
            type=click.Path(exists=True, dir_okay=False, allow_dash=False),
            help="A file with the key; INGEST_KEY is the key itself.",
        )
        @functools.wraps(function)
        def wrapped(url: str, key_file: str | None, **options: Any) -> None:
            try:
                client = IngestClient(
                    url,
                    key=_key(key_file),
                    patience=PATIENCE if patient else 0.0,
                    on_retry=_tell_retry,
                )
            except ValueError as error:
                raise click.UsageError(str(error)) from error
            with client:
                status = _guarded(functools.partial(function, client, **options), url)
            if status:
                sys.exit(status)

        return wrapped

    return decorate


json_option = click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def confirm(effect: str, *, yes: bool) -> None:
    """Tell what is about to happen, and go on only if that is meant."""
    say(effect, err=True)
    if yes:
        return
    # There is none at all where it was closed.
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("There is nobody to ask: repeat it with --yes.")
    click.confirm("Go on?", abort=True, err=True)


def tell(error: IngestError) -> int:
    """Say what went wrong and what to do; return the exit status."""
    say(f"ingest-service: {error}", err=True)
    if isinstance(error, TimedOut):
        return TIMED_OUT
    if not isinstance(error, Refused):
        return UNREACHABLE
    for entry in error.problem.errors[1:]:
        say(f"  {entry.pointer}: {entry.detail}", err=True)
    advice = _ADVICE.get(error.problem.status)
    if error.problem.status == 404 and error.problem.detail != _UNKNOWN_ID:
        advice = "Is the address in --url or INGEST_URL right?"
    if error.retry_after is not None:
        advice = f"Come again in {error.retry_after:g} s."
    if advice:
        say(advice, err=True)
    return REFUSED


def for_each(ids: Iterable[str], act: Callable[[str], Any]) -> int:
    """Do `act` with each of `ids` once; return the exit status.

    Those that are refused are named, and keep nothing from the others.
    """
    worst = 0
    for ingestion_id in dict.fromkeys(ids):
        try:
            act(ingestion_id)
        except Refused as error:
            say(f"{ingestion_id}:", err=True)
            worst = max(worst, tell(error))
    return worst


def line(*words: str) -> str:
    """Return a command line, to be pasted into a shell."""
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """Return a word for a shell, on one line; what cannot be shown as it is, byte by byte."""
    text = os.fsencode(word)
    if encoded(word) == text:
        return shlex.quote(word)
    # As bash, zsh and ksh read it.
    plain = (chr(byte) if chr(byte) in _PLAIN else f"\\{byte:03o}" for byte in text)
    return f"$'{''.join(plain)}'"


def _guarded(function: Callable[[], Any], url: str) -> int:
    try:
        return function() or 0
    except IngestError as error:
        status = tell(error)
        if status == UNREACHABLE and url == DEFAULT_URL:
            say("Does it run? `ingest-service serve` starts one; --url names another.", err=True)
        return status
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        if error.errno == errno.EPIPE:
            # Whoever reads has seen enough, which click knows how to take.
            raise
        raise click.UsageError(f"The output cannot be written: {error.strerror}.") from error


def _key(key_file: str | None) -> str | None:
    context = click.get_current_context()
    if key_file is None:
        return click.Option(["--key"], envvar="INGEST_KEY").resolve_envvar_value(context)
    try:
        return Path(key_file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise click.UsageError(f"{key_file} cannot be read as a key: {error}.") from error


def _tell_retry(reason: str, seconds: float) -> None:
    say(f"{reason} Trying again in {seconds:.1f} s.", err=True)
