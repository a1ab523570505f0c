"""`python -m ingest_service`, the same as the command `ingest-service`."""

from ingest_service.cli import main

main()
