"""Following ingestions: what is said of each, and how it ends whatever happens."""

import os
import shlex
from pathlib import Path

import pytest

from ingest_service.client import IngestClient
from tests.cli.support import Run, ids_in, run_at
from tests.realtime import Scripted, drip, reset, silence

UNKNOWN = "8f14e45f-ceea-467f-a8f5-1c2b3d4e5f60"


def test_several_are_watched_to_their_end(run: Run, client: IngestClient) -> None:
    ids = [client.submit(ids=[1, 2, 3, 4], priority="LOW").ingestion_id for _ in range(3)]
    ran = run("watch", *ids)
    assert ran.exit_code == 0
    ends = [line for line in ran.stdout.splitlines() if "succeeded at" in line]
    assert sorted(ids_in("\n".join(ends))) == sorted(ids)


def test_watching_what_is_unknown_is_told_beside_the_others(run: Run, client: IngestClient) -> None:
    fine = client.submit(ids=[1], priority="LOW").ingestion_id
    ran = run("watch", UNKNOWN, fine)
    assert ran.exit_code == 4
    assert "succeeded at" in ran.stdout
    assert "Ingestion ID not found" in ran.stderr


@pytest.mark.parametrize("command", ["watch", "status", "cancel", "results"])
def test_an_id_that_is_no_text_is_a_usage_error(run: Run, command: str) -> None:
    ran = run(command, os.fsdecode(b"\xff"))
    assert ran.exit_code == 2
    assert "is no id" in ran.stderr


# By patience alone it would take a minute.
@pytest.mark.timeout(30)
@pytest.mark.parametrize("reply", ["nobody", "silence", "drip"])
def test_the_time_out_of_watching_is_one_for_all(
    monkeypatch: pytest.MonkeyPatch, reply: str
) -> None:
    """Also of those that have to wait, and of a head that never ends."""
    monkeypatch.setattr("ingest_service.cli.remote.asking.PATIENCE", 60.0)
    monkeypatch.setattr("ingest_service.cli.remote.watching.MOST", 2)
    monkeypatch.setattr("ingest_service.cli.remote.watching._GRACE", 0.1)
    acts = {"nobody": reset, "silence": silence, "drip": drip(b"HTTP/1.1 200 OK" * 99, 0.05)}
    with Scripted(lambda _: acts[reply]) as server:
        url = "http://127.0.0.1:1" if reply == "nobody" else f"http://127.0.0.1:{server.port}"
        ran = run_at(url)("watch", *map(str, range(40)), "--timeout", "0.3")
    assert ran.exit_code == 5
    assert ran.stderr.count("is not finished after 0.3 s") == 40


def test_the_line_that_goes_on_has_the_service_and_the_key(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def follow(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ingest_service.cli.remote.watching._next", follow)
    file = tmp_path / "the key"
    file.write_text("ik_12345678_file")
    for options in ([], ["--url", url], ["--url", url, "--key-file", str(file)]):
        ran = run("watch", UNKNOWN, *options)
        assert ran.stderr.endswith(
            f"  {shlex.join(['ingest-service', 'watch', UNKNOWN, *options])}\n"
        )
        assert ran.exit_code == 130


def test_a_fault_while_following_ends_the_command(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(IngestClient, "follow", follow)
    assert isinstance(run("watch", "x").exception, RuntimeError)
