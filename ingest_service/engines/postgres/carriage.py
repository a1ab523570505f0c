"""The engine that carries a batch from whoever takes its slot to whoever is free to send it.

The only module that knows Procrastinate, by its public names.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import DeleteJobCondition, Status

from ingest_service.engines.postgres.database import Connection
from ingest_service.engines.postgres.dispatch import Defer

_QUEUE = "ingest"
_CARRY = "ingest.carry"
_TIDY = "ingest.tidy"
#: Seconds between two signs of life of a worker, and after how many it is given up.
HEARTBEAT = 1.0
STALLED = 5.0
#: Seconds between two looks for what workers that are gone have left.
_SWEEP = 1.0
#: Seconds between two looks for jobs, should nobody have told about one.
_POLL = 1.0

# What matters of it is logged here in words of our own.
logging.getLogger("procrastinate").setLevel(logging.WARNING)


def deferring() -> Defer:
    """Return what puts a start on the queue, in the transaction that it was made in."""
    app = App(connector=SyncPsycopgConnector())

    def defer(connection: Connection, start: int) -> None:
        try:
            app.configure_task(_CARRY, queue=_QUEUE, connection=connection).defer(start=start)
        except ConnectorException as error:
            # What the driver says is understood elsewhere.
            raise error.__cause__ or error from None

    return defer


class Carriage:
    """Fetches starts for this process, and finds those that were lost with another."""

    def __init__(
        self,
        conninfo: str,
        threads: int,
        carry: Callable[[int], None],
        lose: Callable[[int], None],
    ) -> None:
        self._threads = threads
        self._lose = lose
        self._app = App(connector=PsycopgConnector(conninfo=conninfo, min_size=1, max_size=3))
        # Several batches of a process wait for their ends at a time, a thread each.
        self._app.task(name=_CARRY, queue=_QUEUE)(carry)
        # Without a periodic task the end of the others would not be noticed.
        tidy = self._app.task(name=_TIDY, queue=_QUEUE, queueing_lock=_TIDY)(self._tidy)
        self._app.periodic(cron="17 * * * *")(tidy)

    async def run(self, name: str, stop_within: float) -> None:
        """Carry batches until this is cancelled, or until the database is lost.

        Those under way have `stop_within` seconds to end.
        """
        executor = ThreadPoolExecutor(self._threads + 4, thread_name_prefix="carry")
        asyncio.get_running_loop().set_default_executor(executor)
        async with self._app.open_async():
            sweeps = asyncio.create_task(self._sweep_for_ever())
            worker = asyncio.create_task(
                self._app.run_worker_async(
                    queues=[_QUEUE],
                    name=name,
                    concurrency=self._threads,
                    fetch_job_polling_interval=_POLL,
                    shutdown_graceful_timeout=stop_within,
                    delete_jobs=DeleteJobCondition.ALWAYS.value,
                    install_signal_handlers=False,
                    update_heartbeat_interval=HEARTBEAT,
                    stalled_worker_timeout=STALLED,
                )
            )
            try:
                await asyncio.wait([sweeps, worker], return_when=asyncio.FIRST_COMPLETED)
            finally:
                sweeps.cancel()
                worker.cancel()
                await asyncio.gather(sweeps, worker, return_exceptions=True)

    async def _sweep_for_ever(self) -> None:
        jobs = self._app.job_manager
        while True:
            await asyncio.sleep(_SWEEP)
            stalled = await jobs.get_stalled_jobs(queue=_QUEUE, seconds_since_heartbeat=STALLED)
            for job in stalled:
                if job.task_name == _CARRY:
                    await asyncio.to_thread(self._lose, int(_start(job.task_kwargs)))
                if job.id is not None:
                    # Never again by the engine itself: that would not wait for a slot.
                    await jobs.finish_job_by_id_async(job.id, Status.FAILED, delete_job=True)

    async def _tidy(self, timestamp: int) -> None:
        del timestamp
        await self._app.job_manager.delete_old_jobs(
            nb_hours=1, include_failed=True, include_cancelled=True, include_aborted=True
        )


def _start(values: dict[str, Any]) -> Any:
    return values["start"]
