"""The gunicorn entry: `gunicorn wsgi:app`."""

import sys

from ingest_service import create_app, logs
from ingest_service.errors import SettingsError
from ingest_service.settings import Settings

try:
    settings = Settings.from_env()
except SettingsError as error:
    sys.exit(f"ingest_service: {error}")

logs.configure(settings.log_level)
app = create_app(settings)
