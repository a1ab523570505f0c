"""Whoever reads the output has seen enough: the command ends, and says nothing about it."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ingest_service.client import IngestClient
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from tests.engines.embedded.journals.support import accept, ingestion
from tests.realtime import Scripted, answer

ROOT = str(Path(__file__).parents[2])


def into_a_closed_pipe(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run the command with an output that nobody reads; return its exit status and errors."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed:
        ran = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "ingest_service", *arguments],
            env=os.environ | environment,
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=20,
            check=False,
        )
    return ran.returncode, ran.stderr


@pytest.mark.parametrize(
    "command",
    ["status x", "watch x", "watch x --json", "results x", "results x --format csv", "ls",
     "ls --json", "queue", "top --times 2 --every 0.2", "when 3", "proof", "retry x", "resume"],
)  # fmt: skip
def test_a_command_of_a_service_ends_silently(url: str, client: IngestClient, command: str) -> None:
    finished = client.submit(ids=range(1, 10), priority="LOW")
    finished.wait(timeout=20)
    words = command.replace(" x", f" {finished.ingestion_id}").split()
    assert into_a_closed_pipe(*words, INGEST_URL=url) == (141, "")


def test_a_stream_that_is_longer_than_any_buffer_ends_silently() -> None:
    with Scripted(lambda _: answer(200, b'{"id": 1}\n' * 200_000)) as server:
        url = f"http://127.0.0.1:{server.port}"
        assert into_a_closed_pipe("results", "x", INGEST_URL=url) == (141, "")


def test_what_was_not_submitted_yet_is_not_lost(url: str, client: IngestClient) -> None:
    status, told = into_a_closed_pipe("submit", "1", INGEST_URL=url)
    assert status == 141
    assert "can be submitted safely with\n  ingest-service submit --key " in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    "command",
    ["check", "export -", "keys --file keys.toml list", "--help", "submit --help", "--version"],
)
def test_a_command_on_this_machine_ends_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(SqliteJournal(tmp_path / "ingest.sqlite3")) as opened:
        opened.recover()
        accept(opened, ingestion(1))
    Path("keys.toml").touch(0o600)
    assert into_a_closed_pipe(*command.split(), PYTHONPATH=ROOT) == (141, "")


def test_standard_errors_that_nobody_reads_are_no_fault(url: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed:
        ran = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "ingest_service", "status", "unknown", "--url", url],
            stderr=closed, timeout=20, check=False,
        )  # fmt: skip
    assert ran.returncode == 141
