"""A gunicorn entry for comparison: every record has a commit of its own."""

from ingest_service import create_app
from ingest_service.engines.embedded.journals import database

database._GROUP = 1  # noqa: SLF001 - what is measured is what it is good for

app = create_app()
