"""Results: where they go, in which form, and what is left if they do not get there."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest_service.client import IngestClient
from tests.cli.support import Run, ids_in, run_at
from tests.client.support import listening
from tests.realtime import Scripted, cut


@pytest.mark.parametrize("form", ["ndjson", "csv", "json"])
def test_results_are_written_to_a_file(
    run: Run, client: IngestClient, tmp_path: Path, form: str
) -> None:
    ingestion = client.submit(ids=range(1, 10), priority="LOW")
    ingestion.wait(timeout=20)
    path = tmp_path / f"out.{form}"
    ran = run("results", ingestion.ingestion_id, "-o", str(path))
    text = path.read_text()
    ids: dict[str, Callable[[], list[Any]]] = {
        "ndjson": lambda: [json.loads(line)["id"] for line in text.splitlines()],
        "csv": lambda: [int(line.partition(",")[0]) for line in text.splitlines()[1:]],
        "json": lambda: [entry["id"] for entry in json.loads(text)],
    }
    assert ids[form]() == list(range(1, 10))
    assert ran.stderr == f"{path}: 9 results.\n"
    assert run("results", ingestion.ingestion_id, "--format", form).stdout_bytes == (
        path.read_bytes()
    )


def test_a_dash_is_standard_output(
    run: Run, client: IngestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("submit", "1-4", "--results", "-")
    results = run("results", ids_in(ran.stdout)[0], "-o", "-").stdout
    assert [json.loads(line)["id"] for line in results.splitlines()] == [1, 2, 3, 4]
    assert (ran.exit_code, ran.stdout.endswith(results)) == (0, True)
    assert list(tmp_path.iterdir()) == []


def test_a_result_that_takes_several_lines_is_one(
    run: Run, client: IngestClient, tmp_path: Path
) -> None:
    mappings = [{"id": f"{n}\nid,", "source": "s", "target": "t"} for n in range(4)]
    ingestion = client.submit(mappings=mappings, priority="LOW")
    ingestion.wait(timeout=20)
    path = tmp_path / "out.csv"
    ran = run("results", ingestion.ingestion_id, "-o", str(path))
    assert ran.stderr == f"{path}: 4 results.\n"


def test_only_the_failed_are_asked_for(tmp_path: Path) -> None:
    with listening(simulated_success_rate_mappings=0.5, simulated_seed=3, max_attempts=1) as url:
        lines = [{"id": f"m{n}", "source": "s", "target": "t"} for n in range(20)]
        text = "\n".join(map(json.dumps, lines))
        run = run_at(url)
        ran = run("submit", "-", "--wait", text=text)
        assert ran.exit_code == 1
        failed = run("results", ids_in(ran.stdout)[0], "--failed").stdout.splitlines()
    assert 0 < len(failed) < 20
    assert {json.loads(line)["status"] for line in failed} == {"failed"}


def test_a_file_is_complete_or_not_there(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Scripted(lambda _: cut(head + b'5\r\n{"a":\r\n')) as server:
        path = tmp_path / "out.ndjson"
        ran = run_at(f"http://127.0.0.1:{server.port}")("results", "x", "-o", str(path))
    assert ran.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_fit_on_the_disk_is_not_there(
    run: Run, client: IngestClient, tmp_path: Path
) -> None:
    """Also if the last of it is what does not fit."""
    ingestion = client.submit(ids=[1, 2], priority="LOW")
    ingestion.wait(timeout=20)
    path = tmp_path / "out.csv"
    path.with_name("out.csv.part").symlink_to("/dev/full")
    ran = run("results", ingestion.ingestion_id, "-o", str(path))
    assert (ran.exit_code, "No space left on device" in ran.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_no_file_is_written_to_and_not_replaced(
    run: Run, client: IngestClient, tmp_path: Path, kind: str
) -> None:
    ingestion = client.submit(ids=[1, 2], priority="LOW")
    ingestion.wait(timeout=20)
    path = tmp_path / "out"
    if kind == "link":
        path.symlink_to(os.devnull)
        assert run("results", ingestion.ingestion_id, "-o", str(path)).exit_code == 0
        assert path.is_symlink()
        return
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    ran = run("results", ingestion.ingestion_id, "-o", str(path))
    assert os.read(reader, 10_000).count(b"\n") == 2
    os.close(reader)
    assert (ran.exit_code, path.is_fifo()) == (0, True)
    assert list(tmp_path.iterdir()) == [path]
