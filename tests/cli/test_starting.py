"""What cannot start says why in one line, and ends with the status of docs/command.md."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, in `folder`."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("INGEST_")}
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "ingest_service", *arguments],
        cwd=folder, env=kept | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "command",
    ["serve --port 1", "migrate", "migrate --check", "work", "export copy", "import -"],
)
def test_without_the_packages_for_a_database_it_is_said_how_to_install_them(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules |= {'psycopg': None, 'procrastinate': None}\n"
    )
    ran = run(
        tmp_path, *command.split(),
        PYTHONPATH=f"{tmp_path}:{ROOT}", INGEST_JOURNAL="postgresql://ingest@127.0.0.1:1/nothing",
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "ingest_service: INGEST_JOURNAL names a PostgreSQL database, and the packages for it are "
        "not installed: pip install 'ingest-service[postgres]'.\n"
    )


@pytest.mark.parametrize("command", ["migrate", "work"])
def test_without_a_database_it_is_said_that_one_is_needed(tmp_path: Path, command: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules |= {'psycopg': None, 'procrastinate': None}\n"
    )
    ran = run(tmp_path, command, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "ingest_service: INGEST_JOURNAL=ingest.sqlite3 is no database; "
        "this needs postgresql://...\n"
    )
