"""How gunicorn runs what `ingest-service serve` has started: as always, and it says what it is."""

from contextlib import suppress
from typing import Any

from ingest_service import gunicorn_conf
from ingest_service.cli.local.serve import announcement
from ingest_service.cli.output import forget_unwritten, say

globals().update(
    {name: value for name, value in vars(gunicorn_conf).items() if not name.startswith("_")}
)


def post_worker_init(worker: Any) -> None:
    """Tell whoever has started it, once somebody is there who answers."""
    if worker.age > 1:
        # One of several, or in the place of another one: it has been said.
        return
    # It serves, whether that can be printed or not.
    with suppress(OSError):
        # As it says itself: it may be inherited.
        for line in announcement(gunicorn_conf.SETTINGS, str(worker.sockets[0])):
            say(line)
    forget_unwritten()
