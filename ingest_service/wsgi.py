"""The application, for gunicorn: `ingest_service.wsgi:app`."""

import os

from ingest_service import create_app, logs
from ingest_service.ending import refusals_end_it
from ingest_service.settings import SERVER_JOURNAL, Settings

# What gunicorn takes for a worker that cannot boot: it ends instead of trying again.
_CANNOT_BOOT = 3

with refusals_end_it(_CANNOT_BOOT):
    settings = Settings.from_env(os.environ, journal=SERVER_JOURNAL)
    logs.configure(settings.log_level)
    app = application = create_app(settings)
