"""`ingest-service demo-upstream`."""

from collections.abc import Callable

import click

from ingest_service.cli.local.failing import told
from ingest_service.cli.output import say
from ingest_service.cli.remote.asking import Command
from ingest_service.demo_upstream import DemoBehaviour, DemoUpstream, fresh_seed
from ingest_service.errors import SettingsError
from ingest_service.setting_kinds import DAY, Number

_Check = Callable[[click.Context, click.Parameter, float], float]


def _within(kind: Number) -> _Check:
    """Return what refuses other numbers; no range of click's refuses what is not a number."""

    def check(_: object, __: object, value: float) -> float:
        try:
            return kind.check(value)
        except ValueError:
            raise click.BadParameter(f"must be {kind.allowed}") from None

    return check


_seconds = _within(Number(0, DAY))
_share = _within(Number(0, 1, "a number"))


@click.command(
    cls=Command,
    examples=(
        "ingest-service demo-upstream --failures 0.2 --reject 0.1 --seed 9",
        "ingest-service demo-upstream --port 0 --interval 1",
    ),
    context_settings={"show_default": True},
)
@click.option("--port", type=click.IntRange(0, 65_535), default=9000, help="0 takes a free one.")
@click.option(
    "--latency", type=float, callback=_seconds, default=0.2, help="Seconds an answer takes."
)
@click.option(
    "--failures",
    type=float,
    callback=_share,
    default=0.1,
    help="Share of attempts that fail for now (503).",
)
@click.option(
    "--reject",
    type=float,
    callback=_share,
    default=0.0,
    help="Share of items that fail for good (404, 422).",
)
@click.option(
    "--interval",
    type=float,
    callback=_seconds,
    default=5.0,
    help="Seconds between batch starts it allows (429).",
)
@click.option("--seed", type=int, help="Makes the failures repeatable.")
@told
def demo_upstream(
    port: int, *, latency: float, failures: float, reject: float, interval: float, seed: int | None
) -> None:
    """Run an API to try things with: slow, unreliable, and strict about its rate."""
    behaviour = DemoBehaviour(
        latency=latency,
        failures=failures,
        rejects=reject,
        interval=interval,
        seed=fresh_seed() if seed is None else seed,
    )
    try:
        upstream = DemoUpstream(behaviour, port)
    except OSError as error:
        reason = error.strerror or error
        raise SettingsError(f"Port {port} cannot be listened on: {reason}.") from error
    address = upstream.address
    say(
        f"Listening on {address}; INGEST_UPSTREAM='{address}/items/{{id}}' "
        f"or INGEST_UPSTREAM='batch+{address}/batch'; {address}/stats tells what came."
    )
    try:
        upstream.serve()
    except KeyboardInterrupt:
        upstream.stop()
    say(f"Stopped; seed {behaviour.seed}, {upstream.stats()}")
