"""The units: what systemd says of them, and clients that wait while the service restarts."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ingest_service import gunicorn_conf
from tests.crash.server import ROOT, free_port
from tests.crash.waiting import eventually
from tests.deploy.support import clean_environment

UNITS = ROOT / "deploy" / "systemd"
SERVICES = ["ingest-service.service", "ingest-service-worker@.service"]
RESTARTS = 10
#: Seconds, on however busy a machine.
PATIENCE = 120.0


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the units with a program that is there."""
    folder = tmp_path_factory.mktemp("units")
    for unit in UNITS.iterdir():
        text = unit.read_text()
        (folder / unit.name).write_text(
            text.replace("/opt/ingest-service/bin/ingest-service", shutil.which("true") or "")
        )
    return folder


def analyze(*words: str, folder: Path) -> str:
    """Return what systemd-analyze says; it has nothing to complain about."""
    command = ["systemd-analyze", *words]
    ran = subprocess.run(  # noqa: S603
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert not ran.stderr, ran.stderr
    return ran.stdout


def test_systemd_understands_the_units(units: Path) -> None:
    names = [f"./{unit.name}" for unit in units.iterdir()]
    assert len(names) == 3
    analyze("verify", "--man=no", *names, folder=units)


@pytest.mark.parametrize("name", SERVICES)
def test_the_services_are_well_confined(units: Path, name: str) -> None:
    """In tenths of systemd's own measure, in which 100 is the worst."""
    said = analyze("security", "--offline=true", "--threshold=19", f"./{name}", folder=units)
    assert "Overall exposure level" in said


@pytest.mark.parametrize("name", SERVICES)
def test_a_stop_is_given_more_time_than_the_service_takes(name: str) -> None:
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", (UNITS / name).read_text(), re.MULTILINE)
    assert int(seconds) > gunicorn_conf.graceful_timeout


#: What systemd does for a unit with a socket: it keeps that open, and whatever ends is started
#: again with it and with its own process id.
SUPERVISOR = f"""
import os, subprocess, sys
for _ in range({RESTARTS + 1}):
    service = subprocess.Popen(
        ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *sys.argv[1:]], pass_fds=[3])
    print("pid", service.pid, flush=True)
    service.wait()
"""


class Activated:
    """The service, started again and again behind a socket that stays open."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._log = folder / "log"
        environment = clean_environment(INGEST_JOURNAL="journal.sqlite3", PYTHONPATH=str(ROOT))
        kept = [f"--setenv={name}={text}" for name, text in environment.items()]
        command = [
            "systemd-socket-activate", f"--listen=127.0.0.1:{self.port}", *kept,
            sys.executable, "-c", SUPERVISOR,
            sys.executable, "-m", "ingest_service", "serve", "--port", "1",
        ]  # fmt: skip
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603
                command, cwd=folder, stdout=log, stderr=log, start_new_session=True
            )

    def logged(self) -> str:
        """Return all that was said."""
        return self._log.read_text()

    def pids(self) -> list[str]:
        """Return the services that there were, the present one last."""
        return re.findall(r"^pid (\d+)$", self.logged(), re.MULTILINE)

    def stop(self) -> None:
        """End the service that runs, as systemd does."""
        subprocess.run(["/bin/kill", "-TERM", self.pids()[-1]], check=True)  # noqa: S603


@pytest.fixture
def activated(tmp_path: Path) -> Iterator[Activated]:
    """Give a service that begins with the first connection."""
    service = Activated(tmp_path)
    yield service
    with suppress(ProcessLookupError):
        os.killpg(service.process.pid, signal.SIGKILL)
    service.process.wait(10)


class Clients:
    """Ask again and again, each time on a new connection; what is refused is noted."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(4)]
        self.answered = 0
        self.failed: list[str] = []

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _run(self) -> None:
        while not self._stopped.wait(0.01):
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
            try:
                connection.request("GET", "/health/live", headers={"Connection": "close"})
                assert connection.getresponse().status == 200
                self.answered += 1
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.failed.append(repr(error))
            finally:
                connection.close()


def test_nobody_is_refused_while_the_service_restarts(activated: Activated) -> None:
    eventually(lambda: "Listening on 127.0.0.1" in activated.logged(), 30)
    with socket.create_connection(("127.0.0.1", activated.port)):
        said = f"Listens on    http://127.0.0.1:{activated.port}\n"
        eventually(lambda: said in activated.logged(), 30)
    with Clients(activated.port) as clients:
        for restart in range(RESTARTS):
            before = clients.answered
            eventually(lambda: clients.answered > before + 20, PATIENCE)  # noqa: B023
            activated.stop()
            eventually(lambda: len(activated.pids()) == restart + 2, PATIENCE)  # noqa: B023
        before = clients.answered
        eventually(lambda: clients.answered > before + 20, PATIENCE)
    activated.stop()
    assert activated.process.wait(40) == 0
    assert clients.failed == []
    assert clients.answered > 20 * RESTARTS
    assert len(activated.pids()) == RESTARTS + 1
    assert "Traceback" not in activated.logged()
