"""The real configuration with short deadlines, so that tests need not wait for the long ones."""

import runpy
from pathlib import Path

from ingest_service.front import limits

limits.HEAD_SECONDS = 1.0
limits.BODY_SECONDS = 1.0
limits.SLOW_SECONDS = 1.0
globals().update(runpy.run_path(str(Path(__file__).parents[2] / "gunicorn.conf.py")))
