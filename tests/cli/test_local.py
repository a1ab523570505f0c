"""The commands on this machine: the journal, and the announcement of a server."""

import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ingest_service.cli import cli
from ingest_service.cli.local import serve as serving
from ingest_service.engines.embedded.journals.sqlite import SqliteJournal
from ingest_service.settings import Settings


def run(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture
def journal(tmp_path: Path) -> str:
    """Give an empty journal."""
    path = tmp_path / "journal.sqlite3"
    SqliteJournal(path).close()
    return str(path)


def test_a_journal_is_backed_up_checked_and_restored(journal: str, tmp_path: Path) -> None:
    copy = str(tmp_path / "copy.sqlite3")
    assert run("backup", "--journal", journal, copy).stdout.startswith(f"{copy}: written")
    assert "sound; 0 ingestions, 0 of them unfinished." in run("check", "--journal", copy).stdout
    Path(journal).unlink()
    assert run("restore", copy, "--journal", journal).stdout == (
        f"{journal}: restored from {copy}.\n"
    )
    assert run("--journal", journal, "check").exit_code == 0


def test_what_does_not_work_is_one_line(
    journal: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INGEST_JOURNAL", "memory")
    ran = run("check")
    assert (ran.exit_code, ran.stderr) == (
        1, "ingest_service: INGEST_JOURNAL=memory is no file; name one with --journal.\n",
    )  # fmt: skip
    assert run("backup", "--journal", journal, journal).exit_code == 1
    monkeypatch.setenv("INGEST_INTERVAL", "soon")
    assert run("check").stderr.startswith("ingest_service: INGEST_INTERVAL")


def test_serving_hands_over_to_gunicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything in its environment; it says nothing of its own before it listens."""
    handed: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: handed.append(command))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    ran = run("serve", "--port", "9001", "--journal", "memory", "--interval", "2.5")
    assert ran.exit_code == 0, ran.output
    assert ran.output == ""
    assert handed[0][-2:] == [
        "python:ingest_service.cli.local.serve_conf", "ingest_service.wsgi:app",
    ]  # fmt: skip
    assert (os.environ["PORT"], os.environ["INGEST_INTERVAL"]) == ("9001", "2.5")
    assert run("serve", "--interval", "soon").stderr.startswith("ingest_service: INGEST_INTERVAL")
    os.environ["INGEST_INTERVAL"] = "1"
    for port in ("abc", "", "99999", "-1"):
        os.environ["PORT"] = port
        ran = run("serve")
        assert (ran.exit_code, ran.stdout) == (1, "")
        assert ran.stderr.startswith(f"ingest_service: PORT={port!r} is not allowed")


def test_a_service_says_where_it_is_and_what() -> None:
    assert serving.announcement(Settings(interval=2.5), "http://127.0.0.1:9001") == [
        "Listens on    http://127.0.0.1:9001",
        "Explained at  http://127.0.0.1:9001/docs",
        "Watched at    http://127.0.0.1:9001/dashboard",
        "Work is kept  in memory, until it ends",
        "The API is    simulated; --upstream names a real one",
        "Its pace      one batch every 2.5 s",
    ]


def test_a_taken_port_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the exit status of a wrong setting, and without a word of listening."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = run("serve", "--port", str(port))
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.stderr == (
        f"ingest_service: 127.0.0.1:{port} cannot be used: another program listens there. "
        "Choose another port with PORT.\n"
    )


def test_a_real_api_and_a_file_are_named() -> None:
    settings = Settings(upstream="batch+http://127.0.0.1/", journal="a.sqlite3")
    lines = serving.announcement(settings, "http://127.0.0.1:9001")
    assert lines[3:5] == [
        "Work is kept  in a.sqlite3, over restarts", "The API is    batch+http://127.0.0.1/",
    ]  # fmt: skip


def test_keys_are_made_listed_replaced_and_revoked(tmp_path: Path) -> None:
    """The key alone goes to the output, for a script to take."""
    file = str(tmp_path / "keys.toml")
    ran = run("keys", "--file", file, "new", "nightly", "--scope", "submit", "--scope", "read",
              "--max-priority", "MEDIUM", "--expires-in", "90d")  # fmt: skip
    assert ran.exit_code == 0, ran.output
    assert ran.stdout.startswith("ik_")
    assert len(ran.stdout.split()) == 1
    assert "only time the key is shown" in ran.stderr

    replaced = run("keys", "--file", file, "rotate", "nightly", "--overlap", "1h")
    assert replaced.stdout.startswith("ik_")
    assert replaced.stdout != ran.stdout
    listed = run("keys", "--file", file, "list").stdout.splitlines()
    assert listed[0].split() == ["name", "scopes", "limits", "expires"]
    assert "read submit  MEDIUM at most" in listed[1]
    assert run("keys", "--file", file, "revoke", "nightly").exit_code == 0
    assert len(run("keys", "--file", file, "list").stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("new", "a b", "--scope", "read"), "letters, digits"),
        (("new", "a"), "--scope"),
        (("new", "a", "--scope", "all"), "is not one of"),
        (("new", "a", "--scope", "read", "--requests-per-minute", "0"), "whole number from 1"),
        (("new", "a", "--scope", "read", "--expires-at", "2027-01-01"), "time zone"),
        (("rotate", "a", "--overlap", "soon"), "must be"),
    ],
)
def test_a_wrong_key_is_not_made(tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    file = tmp_path / "keys.toml"
    ran = run("keys", "--file", str(file), *options)
    assert ran.exit_code == 2
    assert told in ran.stderr
    assert not file.exists()
