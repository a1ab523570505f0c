"""The service on a disk that fails to sync when a client of the test asks for it."""

import os

import apsw
from flask import Flask

from ingest_service.app import build, create_app
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.settings import Settings
from tests.crash.faults import FaultyDisk, Operation


def _create() -> Flask:
    disk = FaultyDisk()
    settings = Settings.from_env(os.environ)
    parts = build(settings, journal=SqliteJournal(settings.journal, vfs=disk.name))
    parts.worker.start()
    made = create_app(settings, parts)

    @made.get("/break")
    def break_down() -> str:
        disk.break_down(Operation.SYNC, 1, apsw.IOError, lasting=False)
        return ""

    return made


app = _create()
