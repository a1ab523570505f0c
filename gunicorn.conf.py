"""How gunicorn runs the service; read from the working directory by itself."""

import os
import socket
import sys

from ingest_service.errors import SettingsError
from ingest_service.settings import DATABASE, Settings

# Here, in the parent, a wrong setting ends everything with one line; a worker
# that fails would be reported with a traceback.
try:
    settings = Settings.from_env(os.environ)
except SettingsError as error:
    sys.exit(f"ingest_service: {error}")

PORT = os.environ.get("PORT", "8000")


def addresses():
    """Return where to listen: some clients try `localhost` as ::1 first, and give up there."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return [f"127.0.0.1:{PORT}"]
    return [f"127.0.0.1:{PORT}", f"[::1]:{PORT}"]


bind = addresses()
worker_class = "ingest_service.front.worker.FrontWorker"
graceful_timeout = 30
control_socket_disable = True
http_parser = "fast"
asgi_loop = "uvloop"
# The worker bounds the head of a request as a whole; what is long within it is refused in words.
limit_request_line = 0
limit_request_field_size = 65536


def on_starting(server):
    """Refuse what would break the promises: the queue and its thread live in one process."""
    if settings.journal.startswith(DATABASE):
        # There the queue lives in the database, and what sends batches are processes of their own.
        return
    for signal in ("hup", "ttin", "usr2"):
        # Each would start a second process beside the one that serves.
        setattr(server, f"handle_{signal}", _refuse_signal(server, signal))
    if server.cfg.workers != 1:
        sys.exit(
            f"ingest_service: {server.cfg.workers} workers would each have a queue and a pace of "
            "their own; run it with 1 (no -w, no WEB_CONCURRENCY)."
        )
    if server.cfg.preload_app:
        sys.exit(
            "ingest_service: with --preload the worker thread would start before the fork and "
            "not exist in the process that serves; run it without."
        )


def _refuse_signal(server, signal):
    def refuse():
        server.log.warning("SIG%s would start a second process; restart instead", signal.upper())

    return refuse
