"""The gunicorn entry in a checkout: `gunicorn wsgi:app`."""

from ingest_service.wsgi import app as app
