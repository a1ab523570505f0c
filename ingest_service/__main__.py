"""`python -m ingest_service`."""

import sys

from ingest_service.cli import main

sys.exit(main())
