"""The real server in a process group of its own, to be stopped in every way there is."""

import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

from tests.crash.waiting import eventually

ROOT = Path(__file__).parents[2]
#: Seconds within which a server starts, and one that cannot start ends.
BOOT = 20.0
#: Environment variable that names the file of `recording_wsgi`.
RECORD = "CRASH_RECORD"


class Answer(NamedTuple):
    """What a server has answered."""

    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        """Return the body, which is JSON."""
        return json.loads(self.body)


class Server:
    """gunicorn on a port of its own, a program of its own that writes to `log`."""

    def __init__(
        self,
        journal: Path,
        log: Path,
        *options: str,
        app: str = "wsgi:app",
        **settings: object,
    ) -> None:
        self.journal = journal
        self.log = log
        self.port = free_port()
        self._command = [sys.executable, "-m", "gunicorn", *options, app]
        self.environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith("INGEST_")},
            "PORT": str(self.port),
            "INGEST_JOURNAL": str(self.journal),
            **{f"INGEST_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    def run_instead(self, *command: str) -> None:
        """Have another command start it."""
        self._command = list(command)

    def launch(self, pass_fds: Sequence[int] = ()) -> None:
        """Begin to start it; it inherits the descriptors `pass_fds`."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                self._command,
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=pass_fds,
            )

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        eventually(self._answers, BOOT)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the parent, as a supervisor does."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, seconds: float = BOOT) -> int:
        """Wait for its end; return the exit status."""
        assert self._process is not None
        status = self._process.wait(seconds)
        self._process = None
        return status

    def stop(self) -> int:
        """Ask it to end; return the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(40.0)

    def kill(self) -> None:
        """Kill parent and worker at once, and wait until they are gone."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self.wait()
            eventually(self._is_unlocked)

    def titles(self) -> bytes:
        """Return how the system shows its processes; asks Linux."""
        assert self._process is not None
        parent = self._process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return b"\n".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (parent, *children))

    def logged(self) -> str:
        """Return all it has ever printed."""
        return self.log.read_text()

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = 10.0,
    ) -> Answer:
        """Send one request on a connection of its own; raise OSError or HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(
                method, path, text, {"Content-Type": "application/json", **(headers or {})}
            )
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the command line on its journal."""
        return subprocess.run(  # noqa: S603
            [sys.executable, "-m", "ingest_service", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=BOOT,
            check=False,
        )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.logged()
        try:
            return self.request("GET", "/health/live").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def _is_unlocked(self) -> bool:
        """Tell whether the last process that held the journal is gone."""
        with self.journal.with_name("journal.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            return True


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def well_behaved(server: Server) -> Iterator[Server]:
    """Run a server that stops when it is told to and has not crashed anywhere."""
    server.start()
    try:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.logged()
    finally:
        server.kill()
