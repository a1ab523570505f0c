"""The application, for gunicorn: `ingest_service.wsgi:app`."""

import os
import sys

from ingest_service import create_app, logs
from ingest_service.errors import JournalUnusable, SettingsError
from ingest_service.settings import SERVER_JOURNAL, Settings

# What gunicorn takes for a worker that cannot boot: it ends instead of trying again.
_CANNOT_BOOT = 3

try:
    settings = Settings.from_env(os.environ, journal=SERVER_JOURNAL)
    logs.configure(settings.log_level)
    app = application = create_app(settings)
except (SettingsError, JournalUnusable) as error:
    sys.stderr.write(f"ingest_service: {error}\n")
    sys.exit(_CANNOT_BOOT)
