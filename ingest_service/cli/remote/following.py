"""`ingest-service status` and `watch`."""

import click

from ingest_service.cli.output import say, say_json
from ingest_service.cli.remote.asking import Command, Seconds, for_each, json_option, remote
from ingest_service.cli.remote.watching import sentence, watch_all
from ingest_service.client import IngestClient

_ID = "0056f4ac-779d-41c1-8ebf-ae438b976afa"


@click.command(
    cls=Command,
    examples=(f"ingest-service status {_ID}", f"ingest-service status {_ID} --json"),
)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
@remote()
def status(client: IngestClient, *, ids: tuple[str, ...], as_json: bool) -> int:
    """Look at ingestions once: a line each."""

    def look(ingestion_id: str) -> None:
        found = client.status(ingestion_id)
        if as_json:
            say_json(found.document)
        else:
            say(sentence(found))

    return for_each(ids, look)


@click.command(
    cls=Command,
    examples=(f"ingest-service watch {_ID}", f"ingest-service watch {_ID} --timeout 600"),
)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--timeout", type=Seconds(0), help="Seconds to follow them at most.")
@json_option
@remote(patient=True)
def watch(
    client: IngestClient, *, ids: tuple[str, ...], timeout: float | None, as_json: bool
) -> int:
    """Follow ingestions to their end.

    On a terminal a live picture, elsewhere a line a change. Ctrl-C ends the watching and
    nothing else.
    """
    return watch_all(client, ids, timeout, as_json=as_json)
