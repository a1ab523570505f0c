"""How gunicorn runs the service."""

import os
import sys
from collections.abc import Callable
from typing import Any

from ingest_service.errors import IngestServiceError, SettingsError
from ingest_service.front import heap, listeners
from ingest_service.keys.file_format import read_keys
from ingest_service.settings import DATABASE, Settings

# Here, in the parent, a wrong setting ends everything with one line; a worker
# that fails would be reported with a traceback.
try:
    SETTINGS = Settings.from_env(os.environ)
    if SETTINGS.api_keys_file is not None:
        read_keys(SETTINGS.api_keys_file)
    PORT = listeners.port(os.environ)
except SettingsError as error:
    sys.exit(f"ingest_service: {error}")

# Inherited by the worker, which has no threads yet.
heap.share_one_heap()

bind = listeners.addresses(SETTINGS.host, PORT)
worker_class = "ingest_service.front.worker.FrontWorker"
graceful_timeout = 30
control_socket_disable = True
http_parser = "fast"
asgi_loop = "uvloop"
# What proxies say is for the application, which knows whether one is trusted.
secure_scheme_headers: dict[str, str] = {}
# The worker bounds the head of a request as a whole; what is long within it is refused in words.
limit_request_line = 0
limit_request_field_size = 65536


def on_starting(server: Any) -> None:
    """Refuse what would break the promises: the queue and its thread live in one process."""
    _check_addresses(server)
    if SETTINGS.journal.startswith(DATABASE):
        # There the queue is in the database, and what sends batches are processes of their own.
        _check_database()
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


def _check_addresses(server: Any) -> None:
    """End in one line if another program listens there."""
    if not server.cfg.reuse_port:
        try:
            listeners.check_free(server.cfg.address, os.environ)
        except SettingsError as error:
            sys.exit(f"ingest_service: {error}")


def _check_database() -> None:
    """End in one line if the database is not there, or has another schema."""
    from ingest_service import app

    try:
        app.migrate(SETTINGS, check=True)
    except IngestServiceError as error:
        sys.exit(f"ingest_service: {error}")


def when_ready(server: Any) -> None:
    """Let no network in without keys: judged by what was opened, whoever has said so."""
    refusal = listeners.refusal([each.sock for each in server.LISTENERS], SETTINGS)
    if refusal is not None:
        sys.exit(f"ingest_service: {refusal}")


def _refuse_signal(server: Any, signal: str) -> Callable[[], None]:
    def refuse() -> None:
        server.log.warning("SIG%s would start a second process; restart instead", signal.upper())

    return refuse
