"""Replicas and workers as a supervisor runs them: whatever ends is started again."""

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.crash.server import ROOT, free_port

PRIORITIES = ("HIGH", "MEDIUM", "LOW")


class Member:
    """A process that is started again whenever it ends."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._command = command
        self._environment = environment
        self._log = log
        self._stopped_until = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def tend(self) -> None:
        """Start it if it does not run; wake it if it has slept long enough."""
        if self._stopped_until and time.monotonic() >= self._stopped_until:
            self._stopped_until = 0.0
            self._signal(signal.SIGCONT)
        if self.process is None or self.process.poll() is not None:
            with self._log.open("ab") as log:
                self.process = subprocess.Popen(  # noqa: S603
                    self._command,
                    cwd=ROOT,
                    env=self._environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def kill(self) -> None:
        """End it without a word."""
        self._signal(signal.SIGKILL)

    def freeze(self, seconds: float) -> None:
        """Let it do nothing for a while, and not notice."""
        self._stopped_until = time.monotonic() + seconds
        self._signal(signal.SIGSTOP)

    def stop(self) -> int:
        """Ask it to end; return the exit status."""
        assert self.process is not None
        self._signal(signal.SIGCONT)
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            return self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.wait(10)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class Posted(NamedTuple):
    """A request that was answered: when at the latest, and what it asked for."""

    ingestion_id: str
    priority: int
    answered_at: float
    ids: range


@dataclass
class Fleet:
    """Everything but the database."""

    journal: str
    upstream_port: int
    folder: Path
    workers: list[Member] = field(default_factory=list)
    replicas: list[Member] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)

    def add_worker(self, *entry: str) -> None:
        """Start another worker; `entry` is what runs it if not the service's own command."""
        command = [sys.executable, "-m", *(entry or ("ingest_service",)), "work", "--threads", "2"]
        log = self.folder / f"worker-{len(self.workers)}.log"
        self.workers.append(Member(command, self._environment(), log))
        self.workers[-1].tend()

    def add_replica(self, processes: int = 1) -> None:
        """Start another replica."""
        port = free_port()
        command = [sys.executable, "-m", "gunicorn", "-w", str(processes), "wsgi:app"]
        environment = self._environment() | {"PORT": str(port)}
        log = self.folder / f"replica-{len(self.replicas)}.log"
        self.replicas.append(Member(command, environment, log))
        self.ports.append(port)
        self.replicas[-1].tend()

    def tend(self) -> None:
        """Do what a supervisor does, once."""
        for member in [*self.workers, *self.replicas]:
            member.tend()

    def await_replicas(self) -> None:
        """Wait until all replicas answer."""
        deadline = time.monotonic() + 60
        for port in self.ports:
            while get(port, "/health") is None:
                assert time.monotonic() < deadline, "a replica does not answer"
                time.sleep(0.1)

    def await_workers(self) -> None:
        """Wait until work is done."""
        deadline = time.monotonic() + 60
        while (health := get(self.ports[0], "/health/ready")) is None:
            assert time.monotonic() < deadline, health
            time.sleep(0.1)

    def stop(self) -> None:
        """End everything."""
        for member in [*self.workers, *self.replicas]:
            member.stop()

    def _environment(self) -> dict[str, str]:
        ours = {name: text for name, text in os.environ.items() if not name.startswith("INGEST_")}
        return ours | {
            "INGEST_JOURNAL": self.journal,
            "INGEST_UPSTREAM": f"batch+http://127.0.0.1:{self.upstream_port}/batch",
            "INGEST_SETTLE": "0",
            **{f"INGEST_{name.upper()}": text for name, text in self.settings.items()},
        }


class Clients:
    """Send requests until told to stop; each again, with its key, until it is answered."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self._fleet = fleet
        self._random = random.Random(seed)  # noqa: S311
        self._numbers = iter(range(1, 10**6))
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self.answered: list[Posted] = []
        self._threads: list[threading.Thread] = []

    def start(self, threads: int, pause: Callable[[random.Random], float]) -> None:
        """Post from several threads, with a pause after each request."""
        self._threads = [
            threading.Thread(target=self._run, args=[pause], daemon=True) for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Post nothing new; wait for the answers to what is under way."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "a request was never answered"

    def post(self, priority: int, batches: int) -> Posted:
        """Post one request; return once it is answered."""
        with self._lock:
            number = next(self._numbers)
        ids = range(number * 1_000, number * 1_000 + 3 * batches)
        body = json.dumps({"ids": list(ids), "priority": PRIORITIES[priority - 1]})
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"request-{number}"}
        while True:
            answer = post(self._random.choice(self._fleet.ports), body, headers)
            if answer is not None:
                posted = Posted(answer["ingestion_id"], priority, time.monotonic(), ids)
                with self._lock:
                    self.answered.append(posted)
                return posted
            time.sleep(0.1)

    def _run(self, pause: Callable[[random.Random], float]) -> None:
        while not self._stopped.is_set():
            priority = self._random.choice((1, 2, 3, 3))
            self.post(priority, self._random.choice((1, 1, 2, 5)))
            self._stopped.wait(pause(self._random))


def post(port: int, body: str, headers: dict[str, str]) -> dict[str, str] | None:
    """Submit to a replica; None if it does not answer, or refuses."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        connection.request("POST", "/ingest", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        return json.loads(text) if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def get(port: int, path: str) -> dict[str, object] | None:
    """Ask a replica; None if it does not answer, or not well."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read()
        return json.loads(text) if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
