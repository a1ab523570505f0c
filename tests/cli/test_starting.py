"""What cannot start says why in one line, and ends with the status of docs/command.md."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ingest_service.engines.embedded.journals.journal_file import JournalFile, check_usable
from tests.crash.server import free_port

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


#: What is asked for, the status of the end, and what is said about it.
HOPELESS = {
    "keys that are not there": ("API_KEYS_FILE=none", 2, "INGEST_API_KEYS_FILE='none' cannot be"),
    "keys that are no TOML": ("API_KEYS_FILE=damaged", 2, "INGEST_API_KEYS_FILE='damaged': "),
    "a network without keys": ("HOST=0.0.0.0", 2, "0.0.0.0 can be reached from other machines"),
    "a network that is shared": ("-b 0.0.0.0:0 --reuse-port", 2, "0.0.0.0 can be reached"),
    "two queues": ("-w 2", 2, "2 workers would each have a queue"),
    "a worker before the fork": ("--preload", 2, "with --preload the worker thread"),
    "a journal in no folder": ("JOURNAL=none/journal", 2, "{here}/none/journal: No such file"),
    "a journal that is a folder": ("JOURNAL=.", 2, "{here}: cannot be opened: it is a folder"),
    "a journal in use": ("JOURNAL=used", 2, "{here}/used: another process uses this journal"),
    "a database that is away": (
        "JOURNAL=postgresql://ingest@127.0.0.1:1/nothing", 3, "The database cannot be reached: ",
    ),
    "no authorities": (
        "UPSTREAM=https://127.0.0.1/{id} UPSTREAM_CA=none", 2, "INGEST_UPSTREAM_CA='none' cannot",
    ),
    "no headers": (
        "UPSTREAM=batch+http://127.0.0.1/ UPSTREAM_HEADERS_FILE=none", 2,
        "INGEST_UPSTREAM_HEADERS_FILE='none' cannot",
    ),
}  # fmt: skip


def serve(folder: Path, asked: str) -> "subprocess.CompletedProcess[str]":
    """Serve with settings, without their prefix, and options of gunicorn's."""
    (folder / "damaged").write_bytes(b"\xa5" * 4096)
    (folder / "damaged").chmod(0o600)
    words = asked.split()
    settings = {f"INGEST_{word}".partition("=")[0]: word.partition("=")[2]
                for word in words if word[0].isupper()}  # fmt: skip
    options = " ".join(word for word in words if not word[0].isupper())
    if options:
        settings["GUNICORN_CMD_ARGS"] = options
    return run(folder, "serve", "--port", str(free_port()), **settings)


@pytest.mark.parametrize("case", HOPELESS)
def test_a_service_that_cannot_start_says_nothing_but_why(tmp_path: Path, case: str) -> None:
    """Not even gunicorn has said a word by then."""
    asked, status, why = HOPELESS[case]
    with closing(JournalFile(tmp_path / "used")):
        ran = serve(tmp_path, asked)
    assert (ran.returncode, ran.stdout) == (status, "")
    assert ran.stderr.startswith(f"ingest_service: {why.format(here=tmp_path)}")
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("JOURNAL=damaged", "{here}/damaged: damaged, or not a journal"),
        ("UPSTREAM=nothing:at_all", "INGEST_UPSTREAM='nothing:at_all' cannot be imported"),
    ],
)
def test_what_only_the_process_that_serves_finds_out_ends_it_too(
    tmp_path: Path, asked: str, why: str
) -> None:
    """Nobody was told that it listens; beside the reason there is what gunicorn logs."""
    ran = serve(tmp_path, asked)
    assert (ran.returncode, ran.stdout) == (2, "")
    said = [line for line in ran.stderr.splitlines() if not line.startswith("[")]
    assert len(said) == 1
    assert said[0].startswith(f"ingest_service: {why.format(here=tmp_path)}")


def test_looking_at_what_a_journal_needs_makes_none(tmp_path: Path) -> None:
    """It may be another user's to make."""
    check_usable(tmp_path / "journal")
    assert list(tmp_path.iterdir()) == []
