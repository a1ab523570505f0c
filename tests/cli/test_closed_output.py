"""There is no output, or no room for it: what cannot be printed is an error, and not lost."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ingest_service.client import IngestClient
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal

ROOT = str(Path(__file__).parents[2])
LINE = "cannot be written: Bad file descriptor.\n"


def without_output(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run the command with its standard output closed; return its exit status and errors."""
    command = [sys.executable, "-m", "ingest_service", *arguments]
    ran = subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command],
        env=os.environ | environment, stderr=subprocess.PIPE, text=True, timeout=30, check=False,
    )  # fmt: skip
    return ran.returncode, ran.stderr


@pytest.mark.parametrize(
    "command",
    ["status x", "status x --json", "watch x", "results x", "ls", "ls --json", "queue",
     "top --times 1", "when 3", "proof", "resume"],
)  # fmt: skip
def test_a_command_of_a_service_says_so(url: str, client: IngestClient, command: str) -> None:
    finished = client.submit(ids=range(1, 10), priority="LOW")
    finished.wait(timeout=20)
    words = command.replace(" x", f" {finished.ingestion_id}").split()
    status, told = without_output(*words, INGEST_URL=url)
    assert status == 2
    assert told.endswith(LINE)
    assert "Traceback" not in told


def test_what_was_submitted_is_not_lost(url: str) -> None:
    status, told = without_output("submit", "1", INGEST_URL=url)
    assert status == 2
    assert "can be submitted safely with\n  ingest-service submit --key " in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    "command",
    ["check", "export -", "keys --file keys.toml list", "demo-upstream --port 0", "--help",
     "submit --help", "--version"],
)  # fmt: skip
def test_a_command_on_this_machine_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(SqliteJournal(tmp_path / "ingest.sqlite3")):
        Path("keys.toml").touch(0o600)
    status, told = without_output(*command.split(), PYTHONPATH=ROOT)
    assert status == 2
    assert told.endswith("Bad file descriptor.\n")
    assert "Traceback" not in told


@pytest.mark.parametrize("command", ["--help", "submit --help", "--version"])
def test_help_for_which_there_is_no_room_is_one_line(command: str) -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "ingest_service", *command.split()],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert ran.returncode == 2
    assert ran.stderr == "Error: The output cannot be written: No space left on device.\n"
