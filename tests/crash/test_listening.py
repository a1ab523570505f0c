"""What a starting server says of where it listens: what is true, and at once."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.server import Server, well_behaved
from tests.crash.waiting import eventually


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Give a server that is not started."""
    server = Server(tmp_path / "journal", tmp_path / "log")
    yield server
    server.kill()


@pytest.mark.parametrize("named_by", ["PORT", "-b"])
def test_a_taken_port_is_said_once_and_nothing_is_tried_again(
    server: Server, named_by: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server.environment["PORT"] = str(port)
        if named_by == "-b":
            server.environment |= {"PORT": "0", "GUNICORN_CMD_ARGS": f"-b 127.0.0.1:{port}"}
        server.launch()
        assert server.wait() == 2
    said = server.logged().splitlines()
    assert f"127.0.0.1:{port} cannot be used: another program listens there" in said[-1]
    assert not any("Connection in use" in line or "Traceback" in line for line in said)


def test_the_command_says_that_it_listens_when_it_does(server: Server) -> None:
    """Behind what gunicorn says of it, and once."""
    server.run_instead(sys.executable, "-m", "ingest_service", "serve")
    server.start()
    eventually(lambda: "Its pace" in server.logged())
    said = server.logged()
    assert said.count(f"Listens on    http://127.0.0.1:{server.port}\n") == 1
    assert said.index("Listening at: ") < said.index("Listens on")
    assert server.stop() == 0


@pytest.mark.parametrize("output", ["> /dev/full", ">&-", "> >(true)"])
def test_a_service_serves_although_nobody_can_be_told(server: Server, output: str) -> None:
    server.environment.pop("PYTHONUNBUFFERED", None)
    server.run_instead(
        "/bin/bash", "-c", f'exec "$@" {output}', "bash",
        sys.executable, "-m", "ingest_service", "serve",
    )  # fmt: skip
    with well_behaved(server):
        pass
    assert "exited with code" not in server.logged()
