"""How gunicorn runs the service."""

import os
import sys
from collections.abc import Callable
from typing import Any

from gunicorn.errors import HaltServer

from ingest_service.ending import refusals_end_it
from ingest_service.engines.embedded.journals.journal_file import check_usable
from ingest_service.errors import JournalUnusable, SettingsError
from ingest_service.front import heap, listeners
from ingest_service.keys.file_format import read_keys
from ingest_service.settings import DATABASE, IN_MEMORY, SERVER_JOURNAL, Settings

# Here, in the parent, what is wrong ends everything with one line; a worker that fails stands
# between lines of gunicorn's.
with refusals_end_it():
    SETTINGS = Settings.from_env(os.environ, journal=SERVER_JOURNAL)
    PORT = listeners.port(os.environ)

# Inherited by the worker, which has no threads yet.
heap.share_one_heap()

bind = listeners.addresses(SETTINGS.host, PORT)
worker_class = "ingest_service.front.worker.FrontWorker"
graceful_timeout = 30
# It bounds the wait for a body as well, which has a minute of our own (see front/limits.py).
timeout = 90
control_socket_disable = True
http_parser = "fast"
asgi_loop = "uvloop"
# What proxies say is for the application, which knows whether one is trusted.
secure_scheme_headers: dict[str, str] = {}
# The worker bounds the head of a request as a whole; what is long within it is refused in words.
limit_request_line = 0
limit_request_field_size = 65536


def nworkers_changed(server: Any, _: int, before: int | None) -> None:
    """Refuse what cannot work: the first that is called, before anything is said or loaded."""
    if before is not None:
        return
    with refusals_end_it():
        if SETTINGS.api_keys_file is not None:
            read_keys(SETTINGS.api_keys_file)
        listeners.check(server.cfg.address, SETTINGS, os.environ, shared=server.cfg.reuse_port)
        if SETTINGS.journal.startswith(DATABASE):
            # There the queue is in the database, and what sends batches are other processes.
            _check_database()
        else:
            _check_alone(server)
            _check_files()


def _check_database() -> None:
    """Raise an error if the database is not there, or has another schema."""
    from ingest_service import app

    app.migrate(SETTINGS, check=True)


def _check_alone(server: Any) -> None:
    """Refuse what would break the promises: the queue and its thread live in one process."""
    for signal in ("hup", "ttin", "usr2"):
        # Each would start a second process beside the one that serves.
        setattr(server, f"handle_{signal}", _refuse_signal(server, signal))
    if server.cfg.workers != 1:
        raise SettingsError(
            f"{server.cfg.workers} workers would each have a queue and a pace of their own; run "
            "it with 1 (no -w, no WEB_CONCURRENCY)."
        )
    if server.cfg.preload_app:
        raise SettingsError(
            "with --preload the worker thread would start before the fork and not exist in the "
            "process that serves; run it without."
        )


def _check_files() -> None:
    """Raise an error if the worker could not use one; it opens them itself."""
    if SETTINGS.has_http_upstream:
        from ingest_service.upstreams import http_config

        http_config.check_files(SETTINGS)
    if SETTINGS.journal != IN_MEMORY:
        check_usable(SETTINGS.journal)


def when_ready(server: Any) -> None:
    """Let no network in without keys: judged by what was opened, whoever has said so."""
    with refusals_end_it():
        listeners.check_reach([each.sock for each in server.LISTENERS], SETTINGS)


def on_exit(_: object) -> None:
    """End as the parent does that is refused something, if a worker was; gunicorn ends with 3."""
    if isinstance(sys.exception(), HaltServer) and not SETTINGS.journal.startswith(DATABASE):
        sys.exit(JournalUnusable.exit_status)


def _refuse_signal(server: Any, signal: str) -> Callable[[], None]:
    def refuse() -> None:
        server.log.warning("SIG%s would start a second process; restart instead", signal.upper())

    return refuse
