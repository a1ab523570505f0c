"""What we assume of Procrastinate: an upgrade that breaks it fails here, and only here.

Nothing else may name a table, a function or a private attribute of it.
"""

import ast
import asyncio
import inspect
from pathlib import Path

import psycopg
import pytest
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from procrastinate.app import WorkerOptions

import ingest_service
from ingest_service.engines.postgres.carriage import deferring

OURS = Path(ingest_service.__file__).parent
SOURCES = sorted((OURS / "engines" / "postgres").rglob("*.py")) + sorted(
    (OURS / "engines" / "postgres").rglob("*.sql")
)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_no_private_name_of_it_is_used(source: Path) -> None:
    text = source.read_text()
    assert "procrastinate_" not in text
    if source.suffix != ".py" or "procrastinate" not in text:
        return
    imported = [
        alias.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("procrastinate")
        for alias in node.names
    ]
    assert not [name for name in imported if name.startswith("_")]


def test_what_is_called_has_the_parameters_that_are_given() -> None:
    worker = inspect.signature(App.run_worker_async).parameters
    assert worker["kwargs"].kind is inspect.Parameter.VAR_KEYWORD
    options = set(inspect.get_annotations(WorkerOptions))
    assert options >= {
        "queues",
        "name",
        "concurrency",
        "fetch_job_polling_interval",
        "shutdown_graceful_timeout",
        "delete_jobs",
        "install_signal_handlers",
        "update_heartbeat_interval",
        "stalled_worker_timeout",
    }
    jobs = App(connector=SyncPsycopgConnector()).job_manager
    assert "seconds_since_heartbeat" in inspect.signature(jobs.get_stalled_jobs).parameters
    assert "delete_job" in inspect.signature(jobs.finish_job_by_id_async).parameters


def test_a_job_is_there_if_and_only_if_its_transaction_was_committed(database: str) -> None:
    defer = deferring()
    with psycopg.connect(database) as connection:
        defer(connection, 41)
        connection.rollback()
        defer(connection, 42)
    assert asyncio.run(_starts(database)) == [42]


async def _starts(database: str) -> list[object]:
    app = App(connector=PsycopgConnector(conninfo=database))
    async with app.open_async():
        jobs = await app.job_manager.list_jobs_async(queue="ingest")
        for job in jobs:
            assert job.id is not None
            await app.job_manager.cancel_job_by_id_async(job.id, delete_job=True)
        return [job.task_kwargs["start"] for job in jobs]
