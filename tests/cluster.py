"""A PostgreSQL server of our own, of the machine's binaries, in a folder that goes away."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

#: Nothing that a test writes has to survive the machine.
CARELESS = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "autovacuum=off")
#: Where Debian keeps them.
_BINARIES = Path("/usr/lib/postgresql")


class Cluster:
    """One server; it listens on a socket in its folder, and on a port if it is given one."""

    def __init__(self, folder: Path, options: Sequence[str], port: int | None = None) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._user = _unprivileged()
        listen = "127.0.0.1" if port else ""
        self._options = [
            f"unix_socket_directories={folder}",
            f"listen_addresses={listen}",
            f"port={port or 5432}",
            "max_connections=200",
            *options,
        ]
        self.port = port

    @property
    def address(self) -> str:
        """What to connect to its first database with."""
        if self.port:
            return f"postgresql://ingest@127.0.0.1:{self.port}/postgres"
        return f"postgresql://ingest@/postgres?host={self._folder}"

    def create(self) -> None:
        """Make its files."""
        if self._user:
            shutil.chown(self._folder, self._user)
        self.run("initdb", "-D", self._data, "-U", "ingest", "-A", "trust", "-N", "--no-locale",
                 "-E", "UTF8")  # fmt: skip

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = " ".join(f"-c {option}" for option in self._options)
        log = self._folder / "log"
        self.run("pg_ctl", "-D", self._data, "-w", "-t", "60", "-l", log, "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; an immediate stop is a crash."""
        self.run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def restart(self) -> None:
        """Let it crash, and come back."""
        self.stop()
        self.start()

    def run(self, program: str, *arguments: str | Path) -> str:
        """Run one of its programs as the user that owns the files."""
        done = subprocess.run(  # noqa: S603
            [_binary(program), *arguments],
            user=self._user,
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"
        return done.stdout


@contextmanager
def private_cluster(
    options: Sequence[str] = CARELESS, port: int | None = None
) -> Iterator[Cluster]:
    """Give a running server."""
    folder = Path(tempfile.mkdtemp(prefix="ingest-postgres-"))
    cluster = Cluster(folder, options, port)
    try:
        cluster.create()
        cluster.start()
        yield cluster
        cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binary(program: str) -> str:
    versions = sorted(_BINARIES.glob("*/bin"), key=lambda path: int(path.parent.name))
    folders = os.pathsep.join([os.environ.get("PATH", ""), *map(str, reversed(versions))])
    found = shutil.which(program, path=folders)
    assert found, f"{program} is not there: install Debian's package `postgresql`"
    return found


def _unprivileged() -> str | None:
    """Return whom to run the server as: root must not."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
