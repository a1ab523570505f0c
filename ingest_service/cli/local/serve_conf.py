"""How gunicorn runs what `ingest-service serve` has started: as always, and it says what it is."""

import os
from typing import Any

from ingest_service import gunicorn_conf
from ingest_service.cli.local.serve import announcement
from ingest_service.cli.output import say
from ingest_service.settings import SERVER_JOURNAL, Settings

globals().update(
    {name: value for name, value in vars(gunicorn_conf).items() if not name.startswith("_")}
)


def when_ready(server: Any) -> None:
    """Tell whoever has started it, once it does listen."""
    gunicorn_conf.when_ready(server)
    settings = Settings.from_env(os.environ, journal=SERVER_JOURNAL)
    # As it says itself: it may be inherited.
    for line in announcement(settings, str(server.LISTENERS[0])):
        say(line)
