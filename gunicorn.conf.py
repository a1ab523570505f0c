"""How gunicorn runs the service in a checkout; read from the working directory by itself."""

import runpy

globals().update(runpy.run_module("ingest_service.gunicorn_conf"))
